//! Runtimes used from any node: real components, joined back to back.

mod harness;
mod mesh;

use std::{sync::atomic::Ordering, time::Duration};

use aesp_proto::{
    Incarnation, Revision, SessionId,
    v1::{
        ContractDraft, DispatchReport, Draining, RegisterTools, StreamChunk, host_frame::Frame as Host,
        runtime_frame::Frame,
    },
};
use aesp_runtime::{Attempt, Dispatch, Error, Lost, LostReason, Update};
use futures::{StreamExt as _, future::join_all};
use tokio::time::timeout;

use self::{
    harness::{Node, PATIENCE, Runtime, answer, tenant},
    mesh::{Mesh, Weather},
};

const A: Incarnation = Incarnation(1);
const B: Incarnation = Incarnation(2);

fn lost(sent: bool, reason: LostReason) -> Update {
    Update::Lost(Lost { sent, reason, retry_after: None })
}

async fn next(attempt: &mut Attempt) -> Update {
    timeout(PATIENCE, attempt.next()).await.expect("in time").expect("not ended")
}

async fn acked(runtime: &mut Runtime, dispatch: &[u8]) {
    match runtime.next().await {
        Host::Ack(ack) => assert_eq!(ack.dispatch_id, dispatch),
        other => panic!("{other:?}"),
    }
}

/// Two nodes with a link.
async fn pair() -> (std::sync::Arc<Mesh>, Node, Node) {
    let mesh = Mesh::new(7);
    let (a, b) = (Node::start().await, Node::start().await);
    mesh.join(A, &a.runtimes);
    mesh.join(B, &b.runtimes);
    (mesh, a, b)
}

async fn knows(node: &Node, tools: &[&str]) {
    node.wait_until(|node| node.runtimes.fulfilled(tenant(1)) == tools).await;
}

#[tokio::test]
async fn a_call_runs_at_another_nodes_runtime() {
    let (_mesh, a, b) = pair().await;
    let mut runtime = b.runtime("git", 4).await;
    knows(&a, &["echo@1.0.0"]).await;
    let call = a.call();
    let mut attempt = a.runtimes.dispatch(call.clone()).unwrap();
    // Whoever calls on behalf of it may be faster than the word of the other node.
    let (running, called) = tokio::join!(
        async {
            let (found, update) =
                tokio::join!(a.runtimes.find(call.id), timeout(Duration::from_millis(300), attempt.next()));
            assert!(update.is_err(), "no answer yet");
            found
        },
        runtime.called()
    );
    let running = running.expect("it runs");
    assert_eq!((&*running.identity, running.tenant, running.depth), ("spiffe://test/git", tenant(1), 1));
    let sent = called.call.clone().expect("a function");
    assert_eq!((called.dispatch_id.as_slice(), sent.args_json), (call.id.as_bytes().as_slice(), call.args));
    assert_eq!((called.invocation_id, called.correlation_id), (call.invocation_id, call.correlation_id));
    assert!((1..=600_000).contains(&called.deadline_ms));

    runtime.answer(called.dispatch_id.clone()).await;
    assert_eq!(next(&mut attempt).await, Update::Result(answer(called.dispatch_id.clone())));
    assert_eq!(attempt.next().await, None);
    assert!(a.runtimes.find(call.id).await.is_none());
    attempt.acknowledge();
    acked(&mut runtime, &called.dispatch_id).await;
    let mut elsewhere = a.call();
    elsewhere.tenant = tenant(3);
    assert!(
        matches!(a.runtimes.dispatch(elsewhere), Err(Error::NoRuntime { .. })),
        "another tenant's is nobody's"
    );
}

#[tokio::test]
async fn a_runtime_here_comes_first_until_it_is_busy() {
    let (_mesh, a, b) = pair().await;
    let mut here = a.runtime("here", 2).await;
    let mut there = b.runtime("there", 2).await;
    a.wait_until(|a| a.metric("aesp_runtime_peer_contracts") >= 2.0).await;
    let mut attempts: Vec<_> = (0..2).map(|_| a.runtimes.dispatch(a.call()).unwrap()).collect();
    for _ in 0..2 {
        let called = here.called().await;
        here.answer(called.dispatch_id).await;
    }
    for attempt in &mut attempts {
        assert!(matches!(next(attempt).await, Update::Result(_)));
    }
    // Two here, two there, and then one that waits here.
    a.wait_until(|a| a.runtimes.list(None)[0].outstanding == 0).await;
    let attempts: Vec<_> = (0..5).map(|_| a.runtimes.dispatch(a.call()).unwrap()).collect();
    let first = here.called().await;
    here.called().await;
    there.called().await;
    there.called().await;
    here.answer(first.dispatch_id).await;
    here.called().await;
    assert_eq!(attempts.len(), 5);
}

#[tokio::test]
async fn a_stream_comes_in_order_and_dropping_it_cancels() {
    let (_mesh, a, b) = pair().await;
    let mut runtime = b.runtime("git", 4).await;
    knows(&a, &["echo@1.0.0"]).await;
    let stream = || Dispatch { streaming: true, ..a.call() };
    let mut attempt = a.runtimes.dispatch(stream()).unwrap();
    let dispatch_id = runtime.called().await.dispatch_id;
    let chunk = |dispatch_id: &[u8], chunk_id, is_final| StreamChunk {
        chunk_id,
        is_final,
        payload: vec![b'1'; 70_000],
        dispatch_id: dispatch_id.to_vec(),
        ..StreamChunk::default()
    };
    for number in 0..3 {
        runtime.send(Frame::Chunk(chunk(&dispatch_id, number, number == 2))).await;
    }
    for number in 0..3 {
        assert_eq!(next(&mut attempt).await, Update::Chunk(chunk(&dispatch_id, number, number == 2)));
    }
    assert_eq!(attempt.next().await, None);

    let mut attempt = a.runtimes.dispatch(stream()).unwrap();
    let dispatch_id = runtime.called().await.dispatch_id;
    runtime.send(Frame::Chunk(chunk(&dispatch_id, 0, false))).await;
    assert!(matches!(next(&mut attempt).await, Update::Chunk(_)));
    drop(attempt);
    match runtime.next().await {
        Host::Cancel(cancel) => assert_eq!(cancel.dispatch_id, dispatch_id),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_lost_in_the_middle_may_have_run_the_call_and_its_result_still_counts() {
    let (mesh, a, b) = pair().await;
    *b.ledger.owner.lock().unwrap() = Some(A);
    let mut runtime = b.runtime("git", 4).await;
    knows(&a, &["echo@1.0.0"]).await;
    let mut attempt = a.runtimes.dispatch(a.call()).unwrap();
    let called = runtime.called().await;
    mesh.cut(A, B);
    assert_eq!(next(&mut attempt).await, lost(true, LostReason::Disconnected));
    assert!(matches!(runtime.next().await, Host::Cancel(_)), "nobody waits for it any more");
    assert!(
        matches!(a.runtimes.dispatch(a.call()), Err(Error::NoRuntime { .. })),
        "its table is gone at once"
    );

    // While nobody reaches the owner the Runtime keeps its result; the owner hears of it after it has recorded the loss.
    runtime.answer(called.dispatch_id.clone()).await;
    mesh.connect(A, B);
    let dispatch = attempt.id();
    drop(attempt);
    acked(&mut runtime, &called.dispatch_id).await;
    assert_eq!(*a.ledger.settled.lock().unwrap(), [("spiffe://test/git".to_owned(), dispatch)]);
    knows(&a, &["echo@1.0.0"]).await;
}

#[tokio::test]
async fn a_runtime_that_never_saw_a_call_tells_its_owner() {
    let (_mesh, a, b) = pair().await;
    *b.ledger.owner.lock().unwrap() = Some(A);
    let mut runtime = b.runtime("git", 4).await;
    knows(&a, &["echo@1.0.0"]).await;
    let call = a.call();
    let mut attempt = a.runtimes.dispatch(call.clone()).unwrap();
    runtime.called().await;
    drop(runtime);
    assert_eq!(next(&mut attempt).await, lost(true, LostReason::Disconnected));
    drop(attempt);
    b.wait_until(|b| b.runtimes.list(None).is_empty()).await;
    let back = b.runtime("git", 4).await;
    back.send(Frame::Report(DispatchReport::default())).await;
    a.wait_until(|a| *a.ledger.never.lock().unwrap() == [call.id]).await;
}

#[tokio::test]
async fn the_last_hop_refuses_what_is_older_than_its_rights() {
    let (_mesh, a, b) = pair().await;
    let mut runtime = b.runtime("git", 4).await;
    knows(&a, &["echo@1.0.0"]).await;
    b.directory.revision.store(5, Ordering::SeqCst);
    let mut old = a.runtimes.dispatch(a.call()).unwrap();
    assert_eq!(next(&mut old).await, lost(false, LostReason::Stale));
    let mut renewed = a.call();
    renewed.rights.tenant = Revision(5);
    let _attempt = a.runtimes.dispatch(renewed.clone()).expect("a refusal of this kind spares nobody");
    assert_eq!(runtime.called().await.dispatch_id, renewed.id.as_bytes());
}

#[tokio::test]
async fn a_node_without_its_lease_sends_nothing() {
    let (_mesh, a, b) = pair().await;
    let mut runtime = b.runtime("git", 4).await;
    knows(&a, &["echo@1.0.0"]).await;
    b.lease_ms.store(0, Ordering::SeqCst);
    let mut attempt = a.runtimes.dispatch(a.call()).unwrap();
    assert_eq!(next(&mut attempt).await, lost(false, LostReason::NoLease));
    assert!(
        matches!(a.runtimes.dispatch(a.call()), Err(Error::NoRuntime { .. })),
        "it is spared for a while"
    );
    // Frames that are no calls still say what is left.
    runtime.send(Frame::Heartbeat(aesp_proto::v1::Heartbeat { sequence: 1, sent_at_ms: 0 })).await;
    let frame = runtime.item().await.expect("not ended").expect("not refused");
    assert_eq!(frame.lease_remaining_ms, Some(0));
}

#[tokio::test]
async fn tables_agree_whatever_becomes_of_the_tells() {
    let (mesh, a, b) = pair().await;
    mesh.weather(Weather::Foul);
    let mut held = Vec::new();
    for round in 0..40_u32 {
        let mut runtime = b.runtime(&format!("git-{round}"), 4).await;
        assert!(runtime.fulfil(&format!("tool{}", round % 7)).await.rejected.is_empty());
        held.push(runtime);
        if round % 3 == 2 {
            held.swap_remove(usize::try_from(round % 5).unwrap() % held.len());
        }
    }
    // Whoever is fast tells many changes at once: more of them, until something was missed.
    for more in 0.. {
        if a.metric("aesp_runtime_resyncs_total") > 0.0 {
            break;
        }
        let mut runtime = b.runtime(&format!("more-{more}"), 4).await;
        assert!(runtime.fulfil(&format!("more{more}")).await.rejected.is_empty());
        held.push(runtime);
        let told = format!("more{more}@1.0.0");
        a.wait_until(|a| a.runtimes.fulfilled(tenant(1)).contains(&told)).await;
    }
    b.wait_until(|b| b.runtimes.list(None).len() == held.len()).await;
    let expected = b.runtimes.fulfilled(tenant(1));
    assert!(expected.len() > 3);
    a.wait_until(|a| a.runtimes.fulfilled(tenant(1)) == expected).await;
    drop(held);
    a.wait_until(|a| a.runtimes.fulfilled(tenant(1)).is_empty()).await;
}

#[tokio::test]
async fn of_two_connections_of_a_runtime_the_newer_stays() {
    let (_mesh, a, b) = pair().await;
    let mut older = a.runtime("git", 4).await;
    let mut attempt = a.runtimes.dispatch(a.call()).unwrap();
    let called = older.called().await;
    // The nodes tell the age of connections in milliseconds.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut newer = b.runtime("git", 4).await;
    match older.next().await {
        Host::GoAway(go) => assert!(go.reason.contains("newer"), "{}", go.reason),
        other => panic!("{other:?}"),
    }
    a.wait_until(|a| a.runtimes.list(None)[0].state == "draining").await;
    knows(&a, &["echo@1.0.0"]).await;
    let _second = a.runtimes.dispatch(a.call()).unwrap();
    newer.called().await;
    older.answer(called.dispatch_id).await;
    assert!(matches!(next(&mut attempt).await, Update::Result(_)), "the older one finishes what it has");

    tokio::time::sleep(Duration::from_millis(5)).await;
    let _newest = b.runtime("git", 4).await;
    assert!(matches!(newer.next().await, Host::GoAway(_)), "at the same node, too");
}

#[tokio::test]
async fn replicas_share_an_id_and_all_stay() {
    let (_mesh, a, b) = pair().await;
    let mut first = a.replica("git", "first").await;
    let _second = a.replica("git", "second").await;
    let mut third = b.replica("git", "third").await;
    a.wait_until(|a| a.metric("aesp_runtime_peer_contracts") >= 2.0).await;
    let mut nameless = b.replica("git", "").await;
    // One that does not say which process it is may be any of them.
    assert!(matches!(third.next().await, Host::GoAway(_)));
    assert!(matches!(first.next().await, Host::GoAway(_)));
    assert_eq!(nameless.fulfil("other").await.fulfilled, ["other"]);
}

#[tokio::test]
async fn a_peer_that_comes_back_hears_which_connection_is_newer() {
    let (mesh, a, b) = pair().await;
    let mut older = a.runtime("git", 4).await;
    mesh.cut(A, B);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut newer = b.runtime("git", 4).await;
    mesh.connect(A, B);
    assert!(matches!(older.next().await, Host::GoAway(_)));
    let mut attempt = b.runtimes.dispatch(b.call()).unwrap();
    let called = newer.called().await;
    newer.answer(called.dispatch_id).await;
    assert!(matches!(next(&mut attempt).await, Update::Result(_)), "the newer one serves on");
}

#[tokio::test]
async fn operators_reach_the_runtimes_of_every_node() {
    let (_mesh, a, b) = pair().await;
    let _here = a.runtime("here", 4).await;
    let mut there = b.runtime("there", 4).await;
    let listed = a.runtimes.list_everywhere(Some(tenant(1))).await;
    let ids: Vec<_> = listed.iter().map(|one| one.runtime_id.as_str()).collect();
    assert_eq!(ids, ["here", "there"]);
    assert!(a.runtimes.list_everywhere(Some(tenant(9))).await.is_empty());
    assert_eq!(a.runtimes.drain_everywhere("there", "maintenance", Duration::from_secs(60)).await, 1);
    assert!(matches!(there.next().await, Host::GoAway(go) if go.reason == "maintenance"));
    assert_eq!(a.runtimes.close_registration_everywhere("there").await, 1);
    assert_eq!(there.refused().await.code(), aesp_proto::ErrorCode::PermissionDenied);
    assert_eq!(a.runtimes.close_identity_everywhere("spiffe://test/other").await, 0);
}

#[tokio::test]
async fn a_node_that_shuts_down_serves_until_its_runtimes_have_left() {
    let (_mesh, a, b) = pair().await;
    let mut runtime = b.runtime("git", 4).await;
    knows(&a, &["echo@1.0.0"]).await;
    let runtimes = b.runtimes.clone();
    let leaving = tokio::spawn(async move { runtimes.go_away_all(Duration::from_secs(60)).await });
    assert!(matches!(runtime.next().await, Host::GoAway(_)));
    let mut attempt = a.runtimes.dispatch(a.call()).unwrap();
    let called = runtime.called().await;
    let mut moved = a.runtime("git", 4).await;
    runtime.send(Frame::Draining(Draining::default())).await;
    let _second = a.runtimes.dispatch(a.call()).unwrap();
    moved.called().await;
    runtime.answer(called.dispatch_id).await;
    assert!(matches!(next(&mut attempt).await, Update::Result(_)));
    drop(runtime);
    timeout(PATIENCE, leaving).await.expect("in time").unwrap();
}

#[tokio::test]
async fn what_a_runtime_registers_for_a_session_is_known_where_the_session_is() {
    let (_mesh, a, b) = pair().await;
    let mut runtime = b.of_one_tenant("git").await;
    let session = SessionId::from_bytes([9; 16]);
    let draft = ContractDraft { name: "own".into(), version: "0.1.0".into(), ..ContractDraft::default() };
    let register =
        RegisterTools { tools: vec![draft], session_id: session.to_string(), ..RegisterTools::default() };
    runtime.send(Frame::Register(register)).await;
    assert!(matches!(runtime.next().await, Host::Registered(answer) if answer.rejected.is_empty()));
    a.wait_until(|a| !a.runtimes.development_tools(tenant(1), session).is_empty()).await;
    assert!(a.runtimes.development_tools(tenant(1), SessionId::from_bytes([1; 16])).is_empty());
    let call = Dispatch { name: "own".into(), version: "0.1.0".into(), development: true, ..a.call() };
    let _attempt = a.runtimes.dispatch(call).unwrap();
    assert_eq!(runtime.called().await.call.expect("a function").name, "own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_between_three_nodes_all_come_back_once() {
    let mesh = Mesh::new(9);
    let nodes = join_all((0..3).map(|_| Node::start())).await;
    for (n, node) in (1..).zip(&nodes) {
        mesh.join(Incarnation(n), &node.runtimes);
    }
    let mut serving = tokio::task::JoinSet::new();
    for n in 0..4 {
        let mut runtime = nodes[1 + n % 2].runtime(&format!("git-{n}"), 16).await;
        serving.spawn(async move {
            while let Some(Ok(frame)) = runtime.frames.next().await {
                if let Some(Host::Call(call)) = frame.frame {
                    runtime.answer(call.dispatch_id).await;
                }
            }
        });
    }
    nodes[0].wait_until(|node| node.metric("aesp_runtime_peer_contracts") >= 4.0).await;
    let calls = (0..1_000).map(|_| async {
        let mut attempt = nodes[0].runtimes.dispatch(nodes[0].call()).unwrap();
        assert!(matches!(next(&mut attempt).await, Update::Result(_)));
        attempt.acknowledge();
    });
    join_all(calls).await;
    let (b, c) =
        (nodes[1].metric("aesp_runtime_dispatches_total"), nodes[2].metric("aesp_runtime_dispatches_total"));
    assert!((b + c - 1_000.0).abs() < f64::EPSILON, "each once: {b} and {c}");
    assert!(b > 250.0 && c > 250.0, "spread over the nodes: {b} and {c}");
}
