//! How connections begin, end and follow each other.

use std::{sync::Arc, time::Duration};

use aesp_proto::{
    Error, ErrorCode,
    v1::{CancelCall, GoAway, Heartbeat, ToolResult, host_frame, runtime_frame},
};
use aesp_sdk::{Runtime, RuntimeState, RuntimeStatus, ToolFailure};
use serde_json::json;
use tokio::sync::Notify;

use super::{
    builder, content, failure, start,
    stub::{Pki, Stub, runtime::call, soon},
    until,
};

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
async fn a_node_without_its_lease_gets_no_work_done() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (_handle, _run) = start(builder(&pki).endpoint(stub.endpoint()));
    let mut host = stub.runtime().await;
    host.lease_remaining_ms = Some(5_000);
    host.welcome(60_000, 250).await;
    host.call(1, "echo", &json!(1));
    assert_eq!(content(&host.result().await), json!(1));
    host.lease_remaining_ms = Some(0);
    host.call(2, "echo", &json!(2));
    assert_eq!(failure(&host.result().await).kind(), ToolFailure::UNAVAILABLE);

    // It has one again, and answers the question that the Runtime asked at once.
    host.lease_remaining_ms = Some(5_000);
    host.answers_heartbeats = false;
    let Some(runtime_frame::Frame::Heartbeat(asked)) = host.next().await else { panic!("no heartbeat") };
    host.send(host_frame::Frame::Heartbeat(asked));
    host.answers_heartbeats = true;
    host.call(3, "echo", &json!(3));
    assert_eq!(content(&host.result().await), json!(3));

    // A frame that came with almost nothing left, and then silence for longer than that.
    host.lease_remaining_ms = Some(1);
    host.answers_heartbeats = false;
    host.send(host_frame::Frame::Heartbeat(Heartbeat { sequence: 1, sent_at_ms: 0 }));
    loop {
        match host.next().await {
            Some(runtime_frame::Frame::Heartbeat(beat)) if beat.sequence == 1 => break,
            Some(_) => {}
            None => panic!("ended"),
        }
    }
    host.lease_remaining_ms = Some(5_000);
    // The silence is what is tested.
    tokio::time::sleep(Duration::from_millis(20)).await;
    host.call(4, "echo", &json!(4));
    let result = loop {
        match host.next().await {
            Some(runtime_frame::Frame::Result(result)) => break result,
            Some(runtime_frame::Frame::Heartbeat(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failure(&result).kind(), ToolFailure::UNAVAILABLE, "the sender may have been frozen");

    // One that only was slow answers, and the call that was held begins; one that was cancelled meanwhile does not.
    host.lease_remaining_ms = Some(1);
    host.send(host_frame::Frame::Heartbeat(Heartbeat { sequence: 2, sent_at_ms: 0 }));
    loop {
        match host.next().await {
            Some(runtime_frame::Frame::Heartbeat(beat)) if beat.sequence == 2 => break,
            Some(runtime_frame::Frame::Heartbeat(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    host.lease_remaining_ms = Some(5_000);
    host.call(5, "echo", &json!(5));
    host.call(6, "echo", &json!(6));
    host.send(host_frame::Frame::Cancel(CancelCall { dispatch_id: vec![6; 16], reason: "test".into() }));
    let mut results = Vec::new();
    while results.len() < 2 {
        match host.next().await {
            // Every question is answered; that which was asked after the silence counts.
            Some(runtime_frame::Frame::Heartbeat(beat)) => host.send(host_frame::Frame::Heartbeat(beat)),
            Some(runtime_frame::Frame::Result(result)) => results.push(result),
            other => panic!("{other:?}"),
        }
    }
    results.sort_by_key(|result| result.dispatch_id.clone());
    assert_eq!(content(&results[0]), json!(5));
    assert_eq!(failure(&results[1]).kind(), ToolFailure::CANCELLED);
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
    let (handle, _run) = start(builder);
    let mut old = first.runtime().await;
    old.welcome(0, 0).await;
    old.call(1, "slow", &json!(1));
    old.send(host_frame::Frame::GoAway(GoAway { reason: "shutdown".into(), grace_ms: 60_000 }));
    let told =
        |status: &RuntimeStatus| status.last_error.as_ref().is_some_and(|why| why.contains("shutdown"));
    until(&handle, "says why", told).await;

    let mut new = second.runtime().await;
    new.accept(0, 0).await;
    let offered = new.offer().await;
    old.call(3, "echo", &json!(3));
    assert_eq!(
        content(&old.result().await),
        json!(3),
        "it serves as long as the other node lets it do nothing"
    );
    new.fulfilled(&offered, &[]);
    let Some(runtime_frame::Frame::Draining(_)) = old.next().await else { panic!("not draining") };
    new.call(2, "echo", &json!(2));
    assert_eq!(content(&new.result().await), json!(2));
    release.notify_one();
    let result = old.result().await;
    assert_eq!(content(&result), json!(1), "the result goes where the call came from");
    old.acknowledge(&result);
    old.acknowledge(&ToolResult { dispatch_id: vec![3; 16], ..result.clone() });
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
