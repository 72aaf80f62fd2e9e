use aesp_sdk::{
    ErrorCode, StreamPart, ToolFailure,
    v1::{Outcome, QueryEventsRequest},
};
use aesp_tests::{Contract, HOUR, HostOptions, Worker, World};
use serde_json::json;

use crate::support::{DENIALS, Gate, refused};

#[tokio::test]
async fn a_call_runs_is_recorded_and_answered_once() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let args = json!({ "text": "Grüezi" });
    let first = session.call("echo", args.clone()).with_invocation_id("one").await.unwrap();
    assert!(!first.replayed);
    let events = world.acme.events(QueryEventsRequest { action: "tool.invoke".into(), ..Default::default() });
    let events = events.await.unwrap();
    let recorded = events.iter().find(|event| event.event_id == first.event_id).expect("is recorded");
    assert_eq!(recorded.outcome(), Outcome::Success);
    assert_eq!(recorded.invocation_id, "one");
    assert_eq!(first.outcome.unwrap(), args);

    let again = session.call("echo", args.clone()).with_invocation_id("one").await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.outcome.unwrap(), args);
    let other = session.call("echo", json!({ "text": "other" })).with_invocation_id("one").await;
    refused(other, &[ErrorCode::StateConflict, ErrorCode::InvalidRequest]);
}

#[tokio::test]
async fn arguments_and_results_off_schema_are_refused() {
    let world = World::new().await.unwrap();
    let worker = world.runtime().unwrap().tool("echo", async |_, _| Ok(json!("no object")));
    let _worker = Worker::start(worker).await.unwrap();
    let session = world.session().await.unwrap();
    for args in [json!({}), json!({ "text": 1 }), json!({ "text": "x", "more": 1 }), json!([])] {
        refused(session.call("echo", args).await, &[ErrorCode::SchemaViolation, ErrorCode::InvalidRequest]);
    }
    let result = session.call("echo", json!({ "text": "x" })).await;
    assert!(result.and_then(aesp_sdk::CallResult::into_content).is_err(), "a result off schema came through");
}

#[tokio::test]
async fn what_no_role_grants_is_neither_called_nor_listed() {
    let world = World::new().await.unwrap();
    world.acme.offer(Contract::new("secret")).await.unwrap();
    world.acme.role("narrow", &["tool:echo"]).await.unwrap();
    let narrow = world.acme.account("narrow", &["narrow"]).await.unwrap();
    let bare = world.acme.account("bare", &[]).await.unwrap();
    let worker = world.runtime().unwrap();
    let worker = worker.tool("echo", async |_, a| Ok(a)).tool("secret", async |_, a| Ok(a));
    let _worker = Worker::start(worker).await.unwrap();

    let session = narrow.client(&world.host).unwrap().session(HOUR).await.unwrap();
    let listed: Vec<String> = session.list_tools().await.unwrap().into_iter().map(|tool| tool.name).collect();
    assert_eq!(listed, ["echo"]);
    for tool in ["echo", "secret"] {
        let args = if tool == "echo" { json!({ "text": "x" }) } else { json!({}) };
        let outcome = session.call(tool, args).await;
        assert_eq!(outcome.is_ok(), listed.iter().any(|name| name == tool), "{tool}: list and call disagree");
        if tool == "secret" {
            let error = refused(outcome, &DENIALS);
            assert!(error.decision_id().is_some(), "the refusal leads to no decision");
        }
    }
    refused(bare.client(&world.host).unwrap().session(HOUR).await, &DENIALS);
}

#[tokio::test]
async fn a_stream_arrives_in_order_with_its_end() {
    let world = World::new().await.unwrap();
    let contract = Contract::new("count").streams(&json!({ "type": "integer" }));
    world.acme.offer(contract).await.unwrap();
    let worker = world.runtime().unwrap().streaming_tool("count", async |_, _, mut chunks| {
        for n in 0..10 {
            chunks.send(&json!(n)).await?;
        }
        Ok(json!({ "counted": 10 }))
    });
    let _worker = Worker::start(worker).await.unwrap();
    let mut parts = world.session().await.unwrap().call_stream("count", json!({})).await.unwrap();
    let mut seen = Vec::new();
    loop {
        match parts.next().await.unwrap().expect("has an end") {
            StreamPart::Chunk(chunk) => seen.push(chunk),
            StreamPart::End(result) => break assert_eq!(result.outcome.unwrap(), json!({ "counted": 10 })),
        }
    }
    assert_eq!(json!(seen), json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
}

#[tokio::test]
async fn a_tool_that_fails_is_an_outcome() {
    let world = World::new().await.unwrap();
    let worker =
        world.runtime().unwrap().tool("echo", async |_, _| Err(ToolFailure::new("the disk is gone")));
    let _worker = Worker::start(worker).await.unwrap();
    let result = world.session().await.unwrap().call("echo", json!({ "text": "x" })).await.unwrap();
    let failure = result.outcome.unwrap_err();
    assert_eq!((failure.kind(), failure.message()), ("TOOL_FAILED", "the disk is gone"));
}

#[tokio::test]
async fn a_node_at_its_limit_refuses_at_once_and_says_when_to_come_again() {
    let options = HostOptions { set: vec!["limits.calls_in_flight=1".into()], ..HostOptions::default() };
    let world = World::with(options).await.unwrap();
    let gate = Gate::new();
    let worker = gate.echo(world.runtime().unwrap());
    let _worker = Worker::start(worker).await.unwrap();
    let (first, second) = (world.session().await.unwrap(), world.session().await.unwrap());
    let running = tokio::spawn(async move { first.call("echo", json!({ "text": "first" })).await });
    gate.arrival().await;

    let refusal =
        refused(second.call("echo", json!({ "text": "x" })).await, &[ErrorCode::ResourceUnavailable]);
    assert!(refusal.retry_delay().is_some(), "the refusal does not say when to come again");

    gate.open();
    running.await.unwrap().unwrap();
    gate.open();
    second.call("echo", json!({ "text": "second" })).await.unwrap();
}
