use std::time::Duration;

use aesp_sdk::{
    CallStream, Error, ErrorCode, StreamPart,
    v1::{AuditEvent, Outcome, QueryEventsRequest},
};
use aesp_tests::{Contract, Worker, World, soon, until};
use serde_json::{Value, json};

use crate::support::{DENIALS, Gate, refused};

/// A Host with the streaming tool `count`, which sends 0, waits at the gate, sends `second`, and ends.
async fn counting(second: Value, gate: &Gate) -> (World, Worker) {
    let world = World::new().await.unwrap();
    let contract = Contract::new("count").streams(&json!({ "type": "integer" })).timeout_ms(60_000);
    world.acme.offer(contract).await.unwrap();
    let inside = gate.clone();
    let worker = world.runtime().unwrap().streaming_tool("count", move |_, _, mut chunks| {
        let (gate, second) = (inside.clone(), second.clone());
        async move {
            chunks.send(&json!(0)).await?;
            gate.pass().await;
            chunks.send(&second).await?;
            Ok(json!({ "counted": 2 }))
        }
    });
    let worker = Worker::start(worker).await.unwrap();
    (world, worker)
}

async fn opened(world: &World) -> CallStream {
    let session = world.session().await.unwrap();
    let call = session.call("count", json!({})).with_invocation_id("streamed");
    let mut parts = soon("the stream opens", call.stream()).await.unwrap().unwrap();
    assert_eq!(next(&mut parts).await.unwrap(), Some(StreamPart::Chunk(json!(0))));
    parts
}

async fn next(parts: &mut CallStream) -> Result<Option<StreamPart>, Error> {
    soon("a part comes", parts.next()).await.unwrap()
}

async fn records(world: &World, action: &str) -> Vec<AuditEvent> {
    let query = QueryEventsRequest { action: action.into(), ..Default::default() };
    let events = world.acme.events(query).await.unwrap();
    events.into_iter().filter(|event| event.invocation_id == "streamed").collect()
}

async fn closing(world: &World) -> AuditEvent {
    until("the stream's end is recorded", async || {
        records(world, "tool.invoke").await.pop().ok_or_else(|| anyhow::anyhow!("not yet"))
    })
    .await
    .unwrap()
}

fn chunks(event: &AuditEvent) -> Option<&str> {
    event.metadata.get("chunks").map(String::as_str)
}

#[tokio::test]
async fn the_opening_is_recorded_before_the_first_part_and_the_end_with_count_and_digest() {
    let gate = Gate::new();
    let (world, _worker) = counting(json!(1), &gate).await;
    let mut parts = opened(&world).await;
    assert_eq!(records(&world, "tool.stream").await.len(), 1, "a part came before its record");
    assert!(records(&world, "tool.invoke").await.is_empty());
    gate.open();
    assert_eq!(next(&mut parts).await.unwrap(), Some(StreamPart::Chunk(json!(1))));
    let Some(StreamPart::End(result)) = next(&mut parts).await.unwrap() else { panic!("has no end") };
    assert_eq!(records(&world, "tool.stream").await.len(), 1, "it is opened once");
    let closing = closing(&world).await;
    assert_eq!(closing.event_id, result.event_id);
    assert_eq!((closing.outcome(), chunks(&closing)), (Outcome::Success, Some("2")));
    assert!(closing.metadata.contains_key("result_digest"), "nothing says which parts they were");
}

#[tokio::test]
async fn of_a_stream_that_a_crash_broke_the_log_has_the_opening_and_no_end() {
    let gate = Gate::new();
    let (mut world, _worker) = counting(json!(1), &gate).await;
    let mut parts = opened(&world).await;
    world.host.process().kill().await.unwrap();
    assert!(next(&mut parts).await.is_err(), "the stream ended well");
    world.host.restart().await.unwrap();
    assert_eq!(records(&world, "tool.stream").await.len(), 1);
    assert!(records(&world, "tool.invoke").await.is_empty());
}

#[tokio::test]
async fn a_part_off_schema_ends_the_stream_and_is_not_shown() {
    let gate = Gate::new();
    let (world, _worker) = counting(json!("two"), &gate).await;
    let mut parts = opened(&world).await;
    gate.open();
    refused(next(&mut parts).await, &[ErrorCode::SchemaViolation]);
    let closing = closing(&world).await;
    assert_ne!(closing.outcome(), Outcome::Success);
    assert_eq!(chunks(&closing), Some("1"));
}

#[tokio::test]
async fn a_right_that_is_taken_ends_the_stream() {
    let gate = Gate::new();
    let (world, _worker) = counting(json!(1), &gate).await;
    let mut parts = opened(&world).await;
    let cancelled = world.acme.revoke_role(&world.agent.principal.principal_id, "caller").await.unwrap();
    assert_eq!(cancelled, 1);
    gate.open();
    refused(next(&mut parts).await, &DENIALS);
    assert_eq!(closing(&world).await.outcome(), Outcome::Denied);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_stream() {
    let gate = Gate::new();
    let (world, worker) = counting(json!(1), &gate).await;
    let parts = opened(&world).await;
    drop(parts);
    let closing = closing(&world).await;
    assert!(closing.reason.starts_with("CANCELLED"), "{}", closing.reason);
    until("the Runtime stops", async || {
        anyhow::ensure!(worker.handle().running_calls() == 0, "it works on");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_reader_who_stops_reading_holds_nobody_up_for_ever() {
    let world = World::new().await.unwrap();
    let contract = Contract::new("flood").streams(&json!({ "type": "string" })).timeout_ms(4_000);
    world.acme.offer(contract).await.unwrap();
    let worker = world.runtime().unwrap().streaming_tool("flood", async |_, _, mut chunks| {
        let part = json!("x".repeat(64 << 10));
        loop {
            chunks.send(&part).await?;
        }
    });
    let worker = worker.tool("echo", async |_, args| Ok(args));
    let worker = Worker::start(worker).await.unwrap();
    let session = world.session().await.unwrap();
    let call = session.call("flood", json!({})).with_invocation_id("streamed");
    let parts = soon("the stream opens", call.stream()).await.unwrap().unwrap();
    // It is held and not read: other calls of the same Runtime go on.
    let other = session.call("echo", json!({ "text": "x" })).timeout(Duration::from_secs(20));
    soon("another call is answered", other.send()).await.unwrap().unwrap().into_content().unwrap();
    let closing = closing(&world).await;
    assert_ne!(closing.outcome(), Outcome::Success);
    until("the Runtime stops", async || {
        anyhow::ensure!(worker.handle().running_calls() == 0, "it works on");
        Ok(())
    })
    .await
    .unwrap();
    drop(parts);
}
