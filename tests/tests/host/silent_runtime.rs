use std::time::Duration;

use aesp_sdk::{
    CallResult, Error, ErrorCode, Session,
    v1::{Effects, InvocationStatus, Outcome, QueryEventsRequest, host_frame},
};
use aesp_tests::{Contract, World, platform, soon, until};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    raw_runtime::{Raw, SUCCESS, goes_on},
    support::refused,
};

const LIMIT: Duration = Duration::from_millis(1_500);

fn calling(
    session: &Session,
    tool: &str,
    args: serde_json::Value,
    invocation: &str,
) -> JoinHandle<Result<CallResult, Error>> {
    let call = session.call(tool, args).with_invocation_id(invocation).timeout(LIMIT);
    tokio::spawn(async move { call.send().await })
}

async fn status(session: &Session, invocation: &str) -> InvocationStatus {
    let known = until("the call is known", async || Ok(session.invocation(invocation).await?)).await;
    known.unwrap().status()
}

#[tokio::test]
async fn a_runtime_that_never_answers_costs_the_call_its_deadline_and_nothing_else() {
    let world = World::new().await.unwrap();
    let mut raw = Raw::connect(&world).await;
    let session = world.session().await.unwrap();
    let running = calling(&session, "echo", json!({ "text": "silence" }), "silent");
    let call = raw.call().await;
    let outcome = soon("the call ends", running).await.unwrap().unwrap();
    let error = refused(outcome, &[ErrorCode::DeadlineExceeded]);
    assert!(error.remediation().is_some(), "it says no next step: {error:?}");

    let cancelled = raw.hear(|frame| match frame {
        host_frame::Frame::Cancel(cancel) => Some(cancel),
        _ => None,
    });
    let cancelled = cancelled.await;
    assert_eq!(cancelled.dispatch_id, call.dispatch_id, "another call was cancelled");
    assert!(!cancelled.reason.is_empty());

    let query = QueryEventsRequest { action: "tool.invoke".into(), ..Default::default() };
    let events = world.acme.events(query).await.unwrap();
    let recorded = events.iter().find(|event| event.invocation_id == "silent").expect("is recorded");
    assert_eq!(recorded.outcome(), Outcome::Failure);
    assert!(recorded.reason.starts_with("DEADLINE_EXCEEDED"), "{}", recorded.reason);
    goes_on(&mut raw, &session).await;
}

/// Gets a call with effects as far as its Runtime, which vanishes with it. Returns the dispatch.
async fn lost(world: &World, session: &Session, invocation: &str) -> aesp_sdk::v1::ToolCall {
    let mut raw = Raw::connect_as(world, "worker", &world.certificate, &["pay"]).await;
    let running = calling(session, "pay", json!({}), invocation);
    let call = raw.call().await;
    drop(raw);
    refused(soon("the call ends", running).await.unwrap().unwrap(), &[ErrorCode::OutcomeUnknown]);
    assert_eq!(status(session, invocation).await, InvocationStatus::InvocationOutcomeUnknown);
    call
}

#[tokio::test]
async fn only_the_runtime_that_had_a_call_settles_it_after_the_fact() {
    let world = World::new().await.unwrap();
    world.acme.offer(Contract::new("pay").effects(Effects::NonIdempotent)).await.unwrap();
    let session = world.session().await.unwrap();
    let call = lost(&world, &session, "payment").await;

    // Another Runtime of the same tenant, for the same tool, that knows the dispatch.
    let certificate = platform::register(&world.host, "other", &[&world.acme]).await.unwrap();
    let mut other = Raw::connect_as(&world, "other", &certificate, &["pay"]).await;
    other.answer(&call, SUCCESS, br#"{"paid":"forged"}"#.to_vec());
    let acknowledged = other.hear(|frame| matches!(frame, host_frame::Frame::Ack(_)).then_some(()));
    acknowledged.await;
    assert_eq!(status(&session, "payment").await, InvocationStatus::InvocationOutcomeUnknown);
    let query = QueryEventsRequest { action: "tool.settle".into(), ..Default::default() };
    let events = world.acme.events(query.clone()).await.unwrap();
    assert!(events.iter().all(|event| event.outcome() == Outcome::Denied), "{events:?}");
    assert_eq!(events.len(), 1, "the attempt is not on record");

    let mut own = Raw::connect_as(&world, "worker", &world.certificate, &["pay"]).await;
    own.answer(&call, SUCCESS, br#"{"paid":"once"}"#.to_vec());
    let acknowledged = own.hear(|frame| matches!(frame, host_frame::Frame::Ack(_)).then_some(()));
    acknowledged.await;
    assert_eq!(status(&session, "payment").await, InvocationStatus::InvocationSucceeded);
    let again = session.call("pay", json!({})).with_invocation_id("payment").await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.into_content().unwrap(), json!({ "paid": "once" }));
    let events = world.acme.events(query).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.outcome() == Outcome::Success).count(), 1);
}

#[tokio::test]
async fn after_a_crash_a_runtime_that_may_not_run_the_tool_settles_nothing() {
    let mut world = World::new().await.unwrap();
    world.acme.offer(Contract::new("pay").effects(Effects::NonIdempotent)).await.unwrap();
    let globex = platform::create_tenant(&world.administrator, "globex").await.unwrap();
    globex.offer(Contract::new("own")).await.unwrap();
    let stranger = platform::register(&world.host, "stranger", &[&globex]).await.unwrap();
    let session = world.session().await.unwrap();
    let mut raw = Raw::connect_as(&world, "worker", &world.certificate, &["pay"]).await;
    let running =
        session.call("pay", json!({})).with_invocation_id("payment").timeout(Duration::from_secs(20));
    let running = tokio::spawn(async move { running.send().await });
    let call = raw.call().await;
    world.host.process().kill().await.unwrap();
    running.abort();
    drop(raw);
    world.host.restart().await.unwrap();

    let mut other = Raw::connect_as(&world, "stranger", &stranger, &["own"]).await;
    other.answer(&call, SUCCESS, br#"{"paid":"forged"}"#.to_vec());
    other.hear(|frame| matches!(frame, host_frame::Frame::Ack(_)).then_some(())).await;
    assert_eq!(status(&session, "payment").await, InvocationStatus::InvocationOutcomeUnknown);

    let mut own = Raw::connect_as(&world, "worker", &world.certificate, &["pay"]).await;
    own.answer(&call, SUCCESS, br#"{"paid":"once"}"#.to_vec());
    own.hear(|frame| matches!(frame, host_frame::Frame::Ack(_)).then_some(())).await;
    until("the call is settled", async || {
        let status = status(&session, "payment").await;
        anyhow::ensure!(status == InvocationStatus::InvocationSucceeded, "{status:?}");
        Ok(())
    })
    .await
    .unwrap();
}
