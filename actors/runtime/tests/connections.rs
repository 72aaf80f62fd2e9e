//! Connections as Runtimes and callers see them.

mod harness;

use std::{sync::atomic::Ordering, time::Duration};

use aesp_proto::{
    ErrorCode,
    v1::{
        AnnounceRuntime, DispatchReport, Draining, RuntimeFrame, StreamChunk, host_frame::Frame as Host,
        runtime_frame::Frame,
    },
};
use aesp_runtime::{Dispatch, Error, Failure, Lost, LostReason, Options, Update};
use tokio::{sync::watch, task::JoinSet};
use tonic::Status;

use self::harness::{Node, Runtime, answer, tenant};

fn lost(sent: bool, reason: LostReason) -> Option<Update> {
    Some(Update::Lost(Lost { sent, reason, retry_after: None }))
}

async fn acked(runtime: &mut Runtime, dispatch: &[u8]) {
    match runtime.next().await {
        Host::Ack(ack) => assert_eq!(ack.dispatch_id, dispatch),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_call_goes_out_and_its_answer_comes_back() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 4).await;
    let call = node.call();
    let mut attempt = node.runtimes.dispatch(call.clone()).unwrap();
    let called = runtime.called().await;
    assert_eq!(called.dispatch_id, call.id.as_bytes());
    let running = node.runtimes.find(call.id).await.expect("it runs");
    assert_eq!((&*running.identity, running.tenant, running.depth), ("spiffe://test/git", tenant(1), 1));

    runtime.answer(called.dispatch_id.clone()).await;
    assert_eq!(attempt.next().await, Some(Update::Result(answer(called.dispatch_id.clone()))));
    assert_eq!(attempt.next().await, None);
    assert!(
        node.runtimes.find(call.id).await.is_none(),
        "nothing is called on behalf of a call that has ended"
    );
    attempt.acknowledge();
    acked(&mut runtime, &called.dispatch_id).await;
    let listed = node.runtimes.list(Some(tenant(1)));
    assert_eq!((listed.len(), listed[0].outstanding, listed[0].credits), (1, 0, 4));
    assert_eq!((listed[0].tools.clone(), listed[0].tenant_ids.len()), (vec!["echo@1.0.0".to_owned()], 1));
}

#[tokio::test]
async fn nobody_fulfils_what_nobody_offered() {
    let node = Node::start().await;
    let _runtime = node.runtime("git", 4).await;
    let mut call = node.call();
    call.version = "2.0.0".into();
    let refused = node.runtimes.dispatch(call).unwrap_err();
    assert!(matches!(refused, Error::NoRuntime { .. }), "{refused:?}");
    let mut call = node.call();
    call.tenant = tenant(3);
    assert!(
        matches!(node.runtimes.dispatch(call), Err(Error::NoRuntime { .. })),
        "another tenant's is nobody's"
    );
}

#[tokio::test]
async fn a_caller_who_goes_away_cancels() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 4).await;
    let attempt = node.runtimes.dispatch(node.call()).unwrap();
    let called = runtime.called().await;
    drop(attempt);
    match runtime.next().await {
        Host::Cancel(cancel) => assert_eq!(cancel.dispatch_id, called.dispatch_id),
        other => panic!("{other:?}"),
    }
    runtime.answer(called.dispatch_id.clone()).await;
    acked(&mut runtime, &called.dispatch_id).await;
    assert_eq!(node.ledger.settled.lock().unwrap().len(), 1, "its result is offered all the same");
}

#[tokio::test]
async fn a_stream_arrives_in_order() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 4).await;
    let mut call = node.call();
    call.streaming = true;
    let mut attempt = node.runtimes.dispatch(call).unwrap();
    let dispatch_id = runtime.called().await.dispatch_id;
    let chunk = |chunk_id, is_final| StreamChunk {
        chunk_id,
        is_final,
        payload: b"1".to_vec(),
        dispatch_id: dispatch_id.clone(),
        ..StreamChunk::default()
    };
    for number in 0..3 {
        runtime.send(Frame::Chunk(chunk(number, number == 2))).await;
    }
    for number in 0..3 {
        assert_eq!(attempt.next().await, Some(Update::Chunk(chunk(number, number == 2))));
    }
    assert_eq!(attempt.next().await, None);
}

#[tokio::test]
async fn a_runtime_that_reads_slowly_is_sent_no_more_than_fits() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 64).await;
    let large = bytes::Bytes::from(vec![b' '; 512 << 10]);
    let attempts: Vec<_> = (0..64)
        .map(|_| node.runtimes.dispatch(Dispatch { args: large.clone(), ..node.call() }).unwrap())
        .collect();
    // Asked after the dispatches, so answered after them.
    node.runtimes.recheck(None).await;
    let outstanding = |node: &Node| node.runtimes.list(None)[0].outstanding;
    assert!((16..=18).contains(&outstanding(&node)), "{} of half a MiB each", outstanding(&node));
    for _ in 0..64 {
        runtime.called().await;
    }
    assert_eq!(outstanding(&node), 64, "the rest follows as it reads");
    drop(attempts);
}

#[tokio::test]
async fn more_than_can_wait_is_refused() {
    let options = Options { queue_calls: 8, tenant_queue_calls: 8, ..Options::default() };
    let node = Node::with(options, usize::MAX).await;
    let mut runtime = node.runtime("git", 2).await;
    let waiting: Vec<_> = (0..10).map(|_| node.runtimes.dispatch(node.call()).unwrap()).collect();
    assert!(matches!(node.runtimes.dispatch(node.call()), Err(Error::Overloaded { .. })));
    let called = runtime.called().await;
    runtime.answer(called.dispatch_id).await;
    node.wait_until(|node| node.runtimes.dispatch(node.call()).is_ok()).await;
    drop(waiting);
}

#[tokio::test]
async fn a_reader_who_is_too_slow_loses_the_stream_and_nobody_else_does() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 4).await;
    let mut call = node.call();
    call.streaming = true;
    let mut attempt = node.runtimes.dispatch(call).unwrap();
    let dispatch_id = runtime.called().await.dispatch_id;
    for chunk_id in 0..300 {
        let chunk = StreamChunk { chunk_id, dispatch_id: dispatch_id.clone(), ..StreamChunk::default() };
        runtime.send(Frame::Chunk(chunk)).await;
    }
    assert!(matches!(runtime.next().await, Host::Cancel(_)));
    let mut other = node.runtimes.dispatch(node.call()).unwrap();
    let called = runtime.called().await;
    runtime.answer(called.dispatch_id).await;
    assert!(matches!(other.next().await, Some(Update::Result(_))));
    for chunk_id in 0..256 {
        assert!(matches!(attempt.next().await, Some(Update::Chunk(chunk)) if chunk.chunk_id == chunk_id));
    }
    assert_eq!(attempt.next().await, Some(Update::Failed(Failure::SlowReader)));
}

#[tokio::test]
async fn a_runtime_that_vanishes_loses_its_calls_and_settles_them_when_it_is_back() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 2).await;
    let (seen, unseen) = (node.call(), node.call());
    let mut first = node.runtimes.dispatch(seen.clone()).unwrap();
    let mut second = node.runtimes.dispatch(unseen.clone()).unwrap();
    let mut waiting = node.runtimes.dispatch(node.call()).unwrap();
    runtime.called().await;
    runtime.called().await;
    drop(runtime);
    assert_eq!(first.next().await, lost(true, LostReason::Disconnected));
    assert_eq!(second.next().await, lost(true, LostReason::Disconnected));
    assert_eq!(waiting.next().await, lost(false, LostReason::Disconnected));
    node.wait_until(|node| node.runtimes.list(None).is_empty()).await;
    assert!(matches!(node.runtimes.dispatch(node.call()), Err(Error::NoRuntime { .. })));

    let mut back = node.runtime("git", 2).await;
    let report = DispatchReport { seen: vec![seen.id.as_bytes().to_vec()], running: Vec::new() };
    back.send(Frame::Report(report)).await;
    back.answer(seen.id.as_bytes().to_vec()).await;
    // Nothing is settled while the callers still decide what to record.
    drop((first, second));
    acked(&mut back, seen.id.as_bytes()).await;
    assert_eq!(*node.ledger.settled.lock().unwrap(), [("spiffe://test/git".to_owned(), seen.id)]);
    node.wait_until(|node| *node.ledger.never.lock().unwrap() == [unseen.id]).await;
}

#[tokio::test]
async fn an_acknowledgement_finds_the_runtime_after_its_reconnect() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 2).await;
    let mut attempt = node.runtimes.dispatch(node.call()).unwrap();
    let called = runtime.called().await;
    runtime.answer(called.dispatch_id.clone()).await;
    assert!(matches!(attempt.next().await, Some(Update::Result(_))));
    drop(runtime);
    node.wait_until(|node| node.runtimes.list(None).is_empty()).await;
    let mut back = node.runtime("git", 2).await;
    attempt.acknowledge();
    acked(&mut back, &called.dispatch_id).await;
}

#[tokio::test]
async fn a_revoked_registration_closes_before_the_call_returns() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 2).await;
    let mut attempt = node.runtimes.dispatch(node.call()).unwrap();
    runtime.called().await;
    node.directory.revoked.store(true, Ordering::SeqCst);
    assert_eq!(node.runtimes.close_registration("git").await, 1);
    assert!(matches!(node.runtimes.dispatch(node.call()), Err(Error::NoRuntime { .. })));
    assert_eq!(attempt.next().await, lost(true, LostReason::Disconnected));
    assert_eq!(runtime.refused().await.code(), ErrorCode::PermissionDenied);
    let mut again = node.announce("git", 2).await;
    assert_eq!(again.refused().await.code(), ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn a_recheck_takes_effect_before_it_returns() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 2).await;
    let mut attempt = node.runtimes.dispatch(node.call()).unwrap();
    runtime.called().await;
    node.directory.retired.store(true, Ordering::SeqCst);
    node.runtimes.recheck(Some(tenant(1))).await;
    assert!(matches!(node.runtimes.dispatch(node.call()), Err(Error::NoRuntime { .. })));
    assert_eq!(attempt.next().await, lost(true, LostReason::Revoked));
    assert!(matches!(runtime.next().await, Host::Cancel(_)));
    assert_eq!(runtime.fulfil("echo").await.rejected[0].reason, "retired");
}

#[tokio::test]
async fn a_certificate_is_closed_even_before_its_announcement() {
    let node = Node::start().await;
    let _served = node.runtime("git", 2).await;
    assert_eq!(node.runtimes.close_identity("spiffe://test/other").await, 0);
    assert_eq!(node.runtimes.close_identity("spiffe://test/git").await, 1);
}

#[tokio::test]
async fn the_quota_refuses_and_is_given_back() {
    let node = Node::with(Options::default(), 1).await;
    let runtime = node.runtime("git", 2).await;
    let mut second = node.announce("other", 2).await;
    assert_eq!(second.refused().await.code(), ErrorCode::QuotaExceeded);
    drop(runtime);
    node.wait_until(|node| node.slots.load(Ordering::SeqCst) == 0).await;
    node.runtime("other", 2).await;
}

#[tokio::test]
async fn a_node_that_shuts_down_sends_its_runtimes_away() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 2).await;
    let mut attempt = node.runtimes.dispatch(node.call()).unwrap();
    let called = runtime.called().await;
    let runtimes = node.runtimes.clone();
    let leaving = tokio::spawn(async move { runtimes.go_away_all(Duration::from_secs(60)).await });
    assert!(matches!(runtime.next().await, Host::GoAway(_)));
    runtime.send(Frame::Draining(Draining::default())).await;
    runtime.answer(called.dispatch_id).await;
    assert!(matches!(attempt.next().await, Some(Update::Result(_))), "it finishes what it has");
    drop(runtime);
    leaving.await.unwrap();
}

#[tokio::test]
async fn garbage_gets_a_clear_error() {
    let node = Node::start().await;
    let mut undecodable = node.runtime("git", 2).await;
    undecodable.sender.send(Err(Status::internal("invalid wire type"))).await.unwrap();
    let error = undecodable.refused().await;
    assert_eq!((error.code(), error.message()), (ErrorCode::InvalidRequest, "a frame can't be decoded"));

    let mut flooding = node.runtime("git", 2).await;
    let flood = async {
        loop {
            if flooding.sender.send(Ok(RuntimeFrame { frame: None })).await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(harness::PATIENCE, flood).await.expect("the connection ends");
    assert_eq!(flooding.refused().await.code(), ErrorCode::SuspiciousActivity);

    let mut nameless = node.announce("git", 2).await;
    assert!(matches!(nameless.next().await, Host::Announced(_)));
    nameless.send(Frame::Announce(AnnounceRuntime::default())).await;
    assert_eq!(nameless.fulfil("echo").await.fulfilled, ["echo"], "one mistake is forgiven");
}

#[tokio::test]
async fn a_result_that_cannot_be_settled_now_is_kept_by_its_runtime() {
    let node = Node::start().await;
    node.ledger.later.store(true, Ordering::SeqCst);
    let mut runtime = node.runtime("git", 4).await;
    let unknown = node.call().id;
    runtime.answer(unknown.as_bytes().to_vec()).await;
    node.wait_until(|node| node.metric("aesp_runtime_unexpected_results_total") > 0.0).await;
    node.ledger.later.store(false, Ordering::SeqCst);
    // No acknowledgement came before the answer to this.
    assert_eq!(runtime.fulfil("other").await.fulfilled, ["other"]);
    drop(runtime);
    let mut back = node.runtime("git", 4).await;
    back.answer(unknown.as_bytes().to_vec()).await;
    acked(&mut back, unknown.as_bytes()).await;
}

#[tokio::test]
async fn the_audit_log_of_the_tenants_tells_of_connections() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 4).await;
    assert_eq!(runtime.fulfil("@").await.rejected.len(), 1);
    assert!((node.metric("aesp_runtime_connections") - 1.0).abs() < f64::EPSILON);
    drop(runtime);
    for action in ["runtime.connect", "runtime.fulfill", "runtime.disconnect"] {
        for tenant in [tenant(1), tenant(2)] {
            let wait = async {
                while !node.logged(tenant, action).await {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(harness::PATIENCE, wait).await.expect("an event in time");
        }
    }
    assert!(!node.logged(tenant(3), "runtime").await, "a tenant that it does not serve hears nothing");
    assert!(node.metric("aesp_runtime_connections").abs() < f64::EPSILON);
    let mut stranger = node.announce("git", 0).await;
    stranger.refused().await;
    assert!(
        (node.metric("aesp_runtime_refused_total") - 2.0).abs() < f64::EPSILON,
        "one tool, one connection"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_runtime_is_given_up() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 2).await;
    let mut attempt = node.runtimes.dispatch(node.call()).unwrap();
    runtime.called().await;
    assert_eq!(attempt.next().await, lost(true, LostReason::Disconnected));
    assert_eq!(runtime.refused().await.code(), ErrorCode::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn an_overdue_call_is_reported_at_its_deadline() {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 2).await;
    let mut call = node.call();
    call.deadline = tokio::time::Instant::now() + Duration::from_millis(250);
    let deadline = call.deadline;
    let mut attempt = node.runtimes.dispatch(call).unwrap();
    runtime.called().await;
    assert_eq!(attempt.next().await, lost(true, LostReason::DeadlineExceeded));
    assert!(tokio::time::Instant::now() < deadline + Duration::from_millis(100));
    assert!(matches!(runtime.next().await, Host::Cancel(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_over_a_thousand_connections_all_come_back() {
    let node = Node::start().await;
    let (release, released) = watch::channel(false);
    let mut serving = JoinSet::new();
    for n in 0..1_000 {
        let mut runtime = node.runtime(&format!("git-{n}"), 64).await;
        let mut released = released.clone();
        serving.spawn(async move {
            while let Host::Call(call) = runtime.next().await {
                released.wait_for(|released| *released).await.unwrap();
                runtime.answer(call.dispatch_id).await;
            }
        });
    }
    let mut attempts: Vec<_> = (0..10_000).map(|_| node.runtimes.dispatch(node.call()).unwrap()).collect();
    let outstanding = |node: &Node| node.runtimes.list(None).iter().map(|one| one.outstanding).sum::<u32>();
    node.wait_until(|node| outstanding(node) == 10_000).await;
    let busiest = node.runtimes.list(None).iter().map(|one| one.outstanding).max();
    assert!(busiest <= Some(20), "two choices spread 10 calls each to {busiest:?} at most");
    release.send(true).unwrap();
    for attempt in &mut attempts {
        assert!(matches!(attempt.next().await, Some(Update::Result(_))));
    }
    node.wait_until(|node| outstanding(node) == 0).await;
}
