//! What becomes of single calls.

use aesp_proto::v1::{CancelCall, host_frame, runtime_frame};
use aesp_sdk::ToolFailure;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    builder, content, failure, start,
    stub::{Pki, Stub, runtime::call, soon},
};

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
