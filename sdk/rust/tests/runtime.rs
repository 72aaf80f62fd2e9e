//! The Runtime against a stub of the Host.

mod stub;

use std::{sync::Arc, time::Duration};

use aesp_proto::{
    Error, ErrorCode,
    v1::{
        CancelCall, ContractDraft, GoAway, Heartbeat, RegisterToolsResponse, RejectedTool, ToolResult,
        host_frame, runtime_frame,
    },
};
use aesp_sdk::{
    Entropy, Runtime, RuntimeBuilder, RuntimeHandle, RuntimeState, RuntimeStatus, Tool, ToolFailure,
};
use serde_json::{Value, json};
use stub::{Pki, Stub, runtime::call, soon};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};

type Run = JoinHandle<Result<(), Error>>;

fn builder(pki: &Pki) -> RuntimeBuilder {
    Runtime::builder("worker-1", pki.tls_with_identity())
        .entropy(Entropy::from_seed(1))
        .reconnect(Duration::from_millis(5), Duration::from_millis(50))
        .tool("echo", async |_, args| Ok(args))
}

fn start(builder: RuntimeBuilder) -> (RuntimeHandle, Run) {
    let runtime = builder.build().expect("is complete");
    (runtime.handle(), tokio::spawn(runtime.run()))
}

async fn until(
    handle: &RuntimeHandle,
    what: &str,
    holds: impl FnMut(&RuntimeStatus) -> bool,
) -> RuntimeStatus {
    let mut status = handle.status();
    let status = soon(what, status.wait_for(holds)).await.expect("runs");
    status.clone()
}

fn content(result: &ToolResult) -> Value {
    let result = result.result.as_ref().expect("has a result");
    serde_json::from_slice(&result.content_json).expect("is JSON")
}

fn failure(result: &ToolResult) -> ToolFailure {
    result.result.clone().expect("has a result").error.expect("failed").into()
}

#[tokio::test]
async fn it_announces_offers_serves_and_forgets_what_is_acknowledged() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (handle, run) = start(builder(&pki).endpoint(stub.endpoint()).concurrency(7).tenant("acme"));
    let mut host = stub.runtime().await;
    let (announced, offered) = host.welcome(0, 0).await;
    assert_eq!((announced.runtime_id.as_str(), announced.tenant_id.as_str()), ("worker-1", "acme"));
    assert_eq!(announced.initial_credits, 7);
    assert_eq!(offered, ["echo"]);
    let status = until(&handle, "fulfilled", |s| !s.fulfilled.is_empty()).await;
    assert_eq!((status.state, status.connection_id.as_str()), (RuntimeState::Serving, "con_stub"));

    host.call(1, "echo", &json!({"a": 1}));
    let result = host.result().await;
    assert_eq!((content(&result), result.dispatch_id.clone()), (json!({"a": 1}), vec![1; 16]));
    assert_eq!(result.invocation_id, "inv-1");
    host.acknowledge(&result);

    host.call(2, "unknown", &json!({}));
    assert_eq!(failure(&host.result().await).kind(), ToolFailure::NOT_FOUND);

    handle.drain("done");
    let Some(runtime_frame::Frame::Draining(draining)) = host.next().await else { panic!("not draining") };
    assert_eq!(draining.reason, "done");
    // The failed call's result is not acknowledged yet, so it stays.
    host.call(3, "echo", &json!(3));
    let last = host.result().await;
    for n in [2, 3] {
        host.acknowledge(&ToolResult { dispatch_id: vec![n; 16], ..last.clone() });
    }
    assert!(host.next().await.is_none());
    soon("it leaves", run).await.unwrap().unwrap();
    assert_eq!(handle.status().borrow().state, RuntimeState::Stopped);
}

#[tokio::test]
async fn a_panic_a_failure_and_a_large_result_fail_their_call_only() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let builder = builder(&pki)
        .endpoint(stub.endpoint())
        .max_result_bytes(100)
        .tool("panics", async |_, _| panic!("boom"))
        .tool("fails", async |_, _| Err(ToolFailure::of_type("NO_DISK", "full")))
        .tool("large", async |_, _| Ok(json!("x".repeat(100))));
    let (_handle, _run) = start(builder);
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;
    let cases = [
        (1, "panics", ToolFailure::INTERNAL),
        (2, "fails", "NO_DISK"),
        (3, "large", ToolFailure::RESULT_TOO_LARGE),
    ];
    for (n, tool, kind) in cases {
        host.call(n, tool, &json!({}));
        let failure = failure(&host.result().await);
        assert_eq!(failure.kind(), kind);
        assert!(!failure.message().contains("boom"), "what broke is for the log");
    }
    let mut malformed = call(4, "echo", &json!({}));
    malformed.call.as_mut().unwrap().args_json = b"{".as_slice().into();
    host.send(host_frame::Frame::Call(malformed));
    assert_eq!(failure(&host.result().await).kind(), ToolFailure::SCHEMA_VIOLATION);
    host.call(5, "echo", &json!(5));
    assert_eq!(content(&host.result().await), json!(5));
}

/// Tells when a handler is dropped.
struct OnDrop(mpsc::UnboundedSender<&'static str>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.send("dropped").ok();
    }
}

#[tokio::test]
async fn deadlines_and_cancellations_drop_the_handler() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let builder = builder(&pki).endpoint(stub.endpoint()).concurrency(2).tool("hangs", move |context, _| {
        let sender = sender.clone();
        async move {
            let _guard = OnDrop(sender.clone());
            sender.send("started").ok();
            let token = context.cancellation().clone();
            tokio::spawn(async move {
                token.cancelled().await;
                sender.send("told").ok();
            });
            std::future::pending().await
        }
    });
    let (handle, _run) = start(builder);
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;

    let mut soon_over = call(1, "hangs", &json!({}));
    soon_over.deadline_ms = 50;
    host.send(host_frame::Frame::Call(soon_over));
    assert_eq!(failure(&host.result().await).kind(), ToolFailure::DEADLINE_EXCEEDED);
    for what in ["started", "dropped", "told"] {
        assert_eq!(soon(what, events.recv()).await, Some(what));
    }

    host.call(2, "hangs", &json!({}));
    host.call(3, "hangs", &json!({}));
    assert_eq!(soon("starts", events.recv()).await, Some("started"));
    assert_eq!(soon("starts", events.recv()).await, Some("started"));
    assert_eq!(handle.running_calls(), 2);
    host.call(4, "echo", &json!({}));
    let full = failure(&host.result().await);
    assert_eq!(full.kind(), ToolFailure::UNAVAILABLE, "no more credits than were given");

    host.send(host_frame::Frame::Cancel(CancelCall { dispatch_id: vec![2; 16], reason: "enough".into() }));
    let result = host.result().await;
    assert_eq!(result.dispatch_id, [2; 16]);
    assert_eq!(failure(&result).kind(), ToolFailure::CANCELLED);
    host.call(5, "echo", &json!(5));
    assert_eq!(content(&host.result().await), json!(5));
}

#[tokio::test]
async fn streams_send_chunks_in_order_then_the_result() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let builder =
        builder(&pki).endpoint(stub.endpoint()).streaming_tool("count", async |_, _, mut chunks| {
            for n in 0..3 {
                chunks.send(&json!(n)).await?;
            }
            Ok(json!("done"))
        });
    let (_handle, _run) = start(builder);
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;
    let mut streamed = call(1, "count", &json!({}));
    streamed.streaming = true;
    host.send(host_frame::Frame::Call(streamed));
    for n in 0..3 {
        let Some(runtime_frame::Frame::Chunk(chunk)) = host.next().await else { panic!("no chunk {n}") };
        assert_eq!((chunk.chunk_id, chunk.payload, chunk.is_final), (n, n.to_string().into_bytes(), false));
        assert_eq!(chunk.dispatch_id, [1; 16]);
    }
    assert_eq!(content(&host.result().await), json!("done"));
    host.call(2, "count", &json!({}));
    assert_eq!(content(&host.result().await), json!("done"), "no chunks where none are read");
}

#[tokio::test]
async fn after_a_lost_connection_it_reports_and_delivers_again() {
    let pki = Pki::new();
    let mut first = Stub::start(&pki).await;
    let mut second = Stub::start(&pki).await;
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let builder = builder(&pki)
        .endpoints([first.endpoint(), second.endpoint()])
        .tool("slow", move |_, args| {
            let released = Arc::clone(&released);
            async move {
                released.notified().await;
                Ok(args)
            }
        })
        .streaming_tool("endless", async |_, _, _| std::future::pending().await);
    let (handle, _run) = start(builder);
    let mut host = first.runtime().await;
    host.welcome(0, 0).await;
    host.call(1, "echo", &json!(1));
    host.call(2, "slow", &json!(2));
    let unacknowledged = host.result().await;
    assert_eq!(unacknowledged.dispatch_id, [1; 16]);
    host.call(3, "echo", &json!(3));
    let third = host.result().await;
    host.acknowledge(&third);
    let mut streamed = call(4, "endless", &json!({}));
    streamed.streaming = true;
    host.send(host_frame::Frame::Call(streamed));
    // The answer to this one shows that all before it has arrived.
    host.call(5, "unknown", &json!({}));
    let fifth = host.result().await;
    host.acknowledge(&fifth);
    host.send(host_frame::Frame::Heartbeat(Heartbeat { sequence: 1, sent_at_ms: 0 }));
    host.answers_heartbeats = false;
    loop {
        match host.next().await {
            Some(runtime_frame::Frame::Heartbeat(beat)) if beat.sequence == 1 => break,
            Some(_) => {}
            None => panic!("ended"),
        }
    }
    first.kill();

    let mut host = second.runtime().await;
    host.accept(0, 0).await;
    let Some(runtime_frame::Frame::Report(report)) = host.next().await else { panic!("no report") };
    assert_eq!(report.seen, (1..=5).map(|n| vec![n; 16]).collect::<Vec<_>>());
    assert!(report.running.contains(&vec![2; 16]));
    let offered = host.offer().await;
    host.fulfilled(&offered, &[]);
    let mut delivered: Vec<_> = [host.result().await, host.result().await].into();
    delivered.sort_by_key(|result| result.dispatch_id.clone());
    assert_eq!(delivered[0], unacknowledged);
    assert_eq!(delivered[1].dispatch_id, [4; 16]);
    assert_eq!(failure(&delivered[1]).kind(), ToolFailure::TRANSPORT_ERROR, "lost chunks end a stream");
    // The same dispatch again does not run again.
    host.call(3, "slow", &json!(3));
    release.notify_one();
    assert_eq!(content(&host.result().await), json!(2));
    let status = handle.status().borrow().clone();
    assert_eq!(status.endpoint, Some(second.endpoint()));
}

#[tokio::test]
async fn a_drained_runtime_delivers_over_another_connection_before_it_leaves() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (handle, run) = start(builder(&pki).endpoint(stub.endpoint()));
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;
    host.call(1, "echo", &json!(1));
    host.result().await;
    handle.drain("done");
    let Some(runtime_frame::Frame::Draining(_)) = host.next().await else { panic!("not draining") };
    host.refuse(tonic::Status::unavailable("the node is gone"));

    let mut host = stub.runtime().await;
    host.accept(0, 0).await;
    let Some(runtime_frame::Frame::Report(_)) = host.next().await else { panic!("no report") };
    let result = loop {
        match host.next().await {
            Some(runtime_frame::Frame::Result(result)) => break result,
            Some(runtime_frame::Frame::Draining(_)) => {}
            other => panic!("nothing is offered any more, but {other:?}"),
        }
    };
    assert_eq!(content(&result), json!(1));
    host.acknowledge(&result);
    soon("it leaves", async { while host.next().await.is_some() {} }).await;
    soon("it ends", run).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_host_gets_no_work_done_before_a_fresh_heartbeat() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (_handle, _run) = start(builder(&pki).endpoint(stub.endpoint()));
    let mut host = stub.runtime().await;
    host.welcome(400, 250).await;
    host.answers_heartbeats = false;
    let mut beats = Vec::new();
    // Two heartbeats after the first one: longer than the lease.
    while beats.len() < 3 {
        let Some(runtime_frame::Frame::Heartbeat(beat)) = host.next().await else { panic!("no heartbeat") };
        beats.push(beat);
    }
    let old = beats.pop().unwrap();
    host.call(1, "echo", &json!(1));
    host.send(host_frame::Frame::Heartbeat(old));
    host.call(2, "echo", &json!(2));
    let mut fresh = None;
    for n in [1, 2] {
        let result = loop {
            match host.next().await.unwrap() {
                runtime_frame::Frame::Heartbeat(beat) => fresh = Some(beat),
                runtime_frame::Frame::Result(result) => break result,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((result.dispatch_id[0], failure(&result).kind()), (n, ToolFailure::UNAVAILABLE));
    }
    host.send(host_frame::Frame::Heartbeat(fresh.expect("it asks at once")));
    host.call(3, "echo", &json!(3));
    host.answers_heartbeats = true;
    assert_eq!(content(&host.result().await), json!(3));
}

#[tokio::test]
async fn asked_to_go_away_it_is_elsewhere_before_it_leaves() {
    let pki = Pki::new();
    let mut first = Stub::start(&pki).await;
    let mut second = Stub::start(&pki).await;
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let builder =
        builder(&pki).endpoints([first.endpoint(), second.endpoint()]).tool("slow", move |_, args| {
            let released = Arc::clone(&released);
            async move {
                released.notified().await;
                Ok(args)
            }
        });
    let (_handle, _run) = start(builder);
    let mut old = first.runtime().await;
    old.welcome(0, 0).await;
    old.call(1, "slow", &json!(1));
    old.send(host_frame::Frame::GoAway(GoAway { reason: "shutdown".into(), grace_ms: 60_000 }));
    let Some(runtime_frame::Frame::Draining(_)) = old.next().await else { panic!("not draining") };

    let mut new = second.runtime().await;
    new.welcome(0, 0).await;
    new.call(2, "echo", &json!(2));
    assert_eq!(content(&new.result().await), json!(2));
    release.notify_one();
    let result = old.result().await;
    assert_eq!(content(&result), json!(1), "the result goes where the call came from");
    old.acknowledge(&result);
    assert!(old.next().await.is_none(), "then it leaves");
}

#[tokio::test]
async fn with_one_node_it_leaves_and_comes_back() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (_handle, _run) = start(builder(&pki).endpoint(stub.endpoint()));
    let mut old = stub.runtime().await;
    old.welcome(0, 0).await;
    old.send(host_frame::Frame::GoAway(GoAway { reason: "restart".into(), grace_ms: 60_000 }));
    let Some(runtime_frame::Frame::Draining(_)) = old.next().await else { panic!("not draining") };
    assert!(old.next().await.is_none());
    stub.runtime().await.welcome(0, 0).await;
}

#[tokio::test]
async fn refused_tools_are_told_and_offered_again() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (handle, _run) = start(builder(&pki).endpoint(stub.endpoint()));
    let mut host = stub.runtime().await;
    host.accept(0, 0).await;
    assert_eq!(host.offer().await, ["echo"]);
    host.fulfilled(&[], &[("echo", "there is no active contract")]);
    let status = until(&handle, "refused", |s| !s.rejected.is_empty()).await;
    assert_eq!(status.rejected["echo"], "there is no active contract");
    assert_eq!(host.offer().await, ["echo"]);
    host.fulfilled(&["echo@1.0.0".to_owned()], &[]);
    let status = until(&handle, "fulfilled", |s| !s.fulfilled.is_empty()).await;
    assert!(status.rejected.is_empty());

    handle.offer(vec![Tool::new("more", async |_, args| Ok(args))]);
    assert_eq!(host.offer().await, ["more"]);
    host.call(1, "more", &json!(1));
    let more = host.result().await;
    host.acknowledge(&more);
    handle.withdraw(&["echo".to_owned()], "gone");
    let Some(runtime_frame::Frame::CapabilityUpdate(update)) = host.next().await else { panic!("no update") };
    assert_eq!((update.withdrawn_tools, update.reason.as_str()), (vec!["echo".to_owned()], "gone"));
    host.call(2, "echo", &json!(1));
    assert_eq!(failure(&host.result().await).kind(), ToolFailure::NOT_FOUND);
    assert!(handle.status().borrow().fulfilled.is_empty());
}

#[tokio::test]
async fn tools_are_registered_for_one_session_and_again_after_a_reconnect() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (handle, _run) = start(builder(&pki).endpoint(stub.endpoint()));
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;
    until(&handle, "fulfilled", |s| !s.fulfilled.is_empty()).await;
    let draft =
        ContractDraft { name: "echo".to_owned(), version: "0.1.0".to_owned(), ..ContractDraft::default() };
    handle.register("ses_x", vec![(draft.clone(), Tool::new("echo", async |_, _| Ok(json!("own"))))]);
    let Some(runtime_frame::Frame::Register(register)) = host.next().await else { panic!("not registered") };
    assert_eq!((register.session_id.as_str(), &register.tools), ("ses_x", &vec![draft]));
    let reason = "the tenant is in STRICT mode".to_owned();
    host.send(host_frame::Frame::Registered(RegisterToolsResponse {
        rejected: vec![RejectedTool { name: "echo".to_owned(), reason: reason.clone() }],
        ..Default::default()
    }));
    let status = until(&handle, "refused", |s| !s.not_registered.is_empty()).await;
    assert_eq!(status.not_registered["echo"], reason);

    host.call(1, "echo", &json!(1));
    assert_eq!(content(&host.result().await), json!("own"), "the session's own comes first");
    let mut other = call(2, "echo", &json!(1));
    other.session_id = "ses_y".to_owned();
    host.send(host_frame::Frame::Call(other));
    assert_eq!(content(&host.result().await), json!(1), "in its session only");

    host.close();
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;
    let Some(runtime_frame::Frame::Register(again)) = host.next().await else { panic!("not registered") };
    assert_eq!(again, register);
}

#[tokio::test]
async fn a_refused_runtime_ends_with_the_reason() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (_handle, run) = start(builder(&pki).endpoint(stub.endpoint()));
    stub.runtime().await.refuse(Error::new(ErrorCode::CertificateInvalid, "not registered").into());
    let error = soon("it gives up", run).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.message()), (ErrorCode::CertificateInvalid, "not registered"));
}

#[tokio::test]
async fn a_runtime_with_a_certificate_of_another_authority_gives_up() {
    let (pki, other) = (Pki::new(), Pki::new());
    let stubs = [Stub::start(&pki).await, Stub::start(&pki).await];
    let builder = Runtime::builder("worker-1", pki.tls_with_identity_of(&other))
        .reconnect(Duration::from_millis(5), Duration::from_millis(50))
        .endpoints(stubs.iter().map(Stub::endpoint));
    let (_handle, run) = start(builder);
    let error = soon("it gives up", run).await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::CertificateInvalid, "{error}");
}

#[tokio::test]
async fn a_busy_host_is_tried_again() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (_handle, _run) = start(builder(&pki).endpoint(stub.endpoint()));
    stub.runtime().await.refuse(Error::new(ErrorCode::ServiceUnavailable, "starting").into());
    stub.runtime().await.welcome(0, 0).await;
}

#[tokio::test]
async fn a_handler_calls_on_behalf_of_its_caller() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let builder = builder(&pki).endpoint(stub.endpoint()).tool("outer", async |context, args| {
        let inner = context.call("inner", args).await.map_err(|e| ToolFailure::new(e.to_string()))?;
        // The stub puts the dispatch it was told of where the correlation id goes.
        Ok(json!({"inner": inner.outcome?, "on_behalf_of": inner.correlation_id}))
    });
    let (_handle, _run) = start(builder);
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;
    host.call(9, "outer", &json!({"x": 1}));
    let result = content(&host.result().await);
    let dispatch = aesp_proto::DispatchId::from_bytes([9; 16]).to_string();
    assert_eq!(result, json!({"inner": {"x": 1}, "on_behalf_of": dispatch}));
}

#[tokio::test]
async fn a_dropped_runtime_cancels_its_calls() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let builder = builder(&pki).endpoint(stub.endpoint()).tool("hangs", move |_, _| {
        let sender = sender.clone();
        async move {
            sender.send("started").ok();
            let _guard = OnDrop(sender);
            std::future::pending().await
        }
    });
    let (_handle, run) = start(builder);
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;
    host.call(1, "hangs", &json!({}));
    assert_eq!(soon("starts", events.recv()).await, Some("started"));
    run.abort();
    assert_eq!(soon("is dropped", events.recv()).await, Some("dropped"));
}

#[test]
fn an_incomplete_description_says_what_is_missing() {
    let pki = Pki::new();
    let endpoint: aesp_sdk::Endpoint = "localhost:1".parse().unwrap();
    let complete = || builder(&pki).endpoint(endpoint.clone());
    assert!(complete().build().is_ok());
    for incomplete in [
        builder(&pki),
        complete().concurrency(0),
        complete().concurrency(5000),
        Runtime::builder("", pki.tls_with_identity()).endpoint(endpoint.clone()),
        Runtime::builder("worker", pki.tls()).endpoint(endpoint.clone()),
    ] {
        assert_eq!(incomplete.build().unwrap_err().code(), ErrorCode::ConfigurationError);
    }
}
