use aesp_sdk::{Client, Error, ErrorCode, v1};
use aesp_tests::{Contract, HOUR, Worker, World, soon};
use serde_json::json;

use crate::support::{Gate, refused};

async fn authorize(client: &Client, session: &str, args: &str) -> v1::AuthorizeToolCallResponse {
    let call =
        v1::FunctionCall { name: "echo".into(), args_json: args.to_owned().into(), ..Default::default() };
    let request =
        v1::AuthorizeToolCallRequest { session_id: session.into(), call: Some(call), ..Default::default() };
    client.agent().authorize_tool_call(request).await.unwrap().into_inner()
}

async fn log(client: &Client, session: &str, invocation: &str) -> Result<v1::LogToolResultResponse, Error> {
    log_after(client, session, invocation, 5).await
}

async fn log_after(
    client: &Client,
    session: &str,
    invocation: &str,
    execution_time_ms: u64,
) -> Result<v1::LogToolResultResponse, Error> {
    let result = v1::FunctionResult {
        name: "echo".into(),
        status: v1::ResultStatus::Success.into(),
        content_json: r#"{"text":"x"}"#.into(),
        ..Default::default()
    };
    let request = v1::LogToolResultRequest {
        session_id: session.into(),
        invocation_id: invocation.into(),
        result: Some(result),
        execution_time_ms,
        ..Default::default()
    };
    let answer = client.agent().log_tool_result(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Error::from_status(&status))
}

#[tokio::test]
async fn a_tool_at_the_agent_is_authorised_and_logged_once() {
    let world = World::new().await.unwrap();
    let client = world.agent.client(&world.host).unwrap();
    let session = client.session(HOUR).await.unwrap();
    let approved = authorize(&client, session.id(), r#"{"text":"x"}"#).await;
    assert_eq!(approved.status(), v1::AuthorizationStatus::Approved);
    assert!(approved.authorization_ttl_ms > 0);
    let invocation = &approved.invocation_id;
    let open = session.invocation(invocation).await.unwrap();
    assert_eq!(open.status(), v1::InvocationStatus::InvocationOutcomeUnknown);

    let logged = log(&client, session.id(), invocation).await.unwrap();
    assert_eq!(logged.status(), v1::LogStatus::Logged);
    let query = v1::QueryEventsRequest { action: "tool.log_result".into(), ..Default::default() };
    let events = world.acme.events(query).await.unwrap();
    assert!(
        events.iter().any(|event| event.event_id == logged.event_id && event.invocation_id == *invocation)
    );
    let known = session.invocation(invocation).await.unwrap();
    assert_eq!(known.status(), v1::InvocationStatus::InvocationSucceeded);

    let again = log(&client, session.id(), invocation).await.unwrap();
    assert_eq!(again.status(), v1::LogStatus::Rejected, "a result was logged twice");
    let unasked = log(&client, session.id(), "never-authorised").await.unwrap();
    assert_eq!(unasked.status(), v1::LogStatus::Rejected);
}

#[tokio::test]
async fn what_invoke_refuses_is_denied_at_the_agent_too() {
    let world = World::new().await.unwrap();
    let client = world.agent.client(&world.host).unwrap();
    let session = client.session(HOUR).await.unwrap();
    let denied = authorize(&client, session.id(), r#"{"text":1}"#).await;
    assert_eq!(denied.status(), v1::AuthorizationStatus::Denied);
    assert!(denied.invocation_id.is_empty());
    assert_eq!(denied.error.unwrap().r#type, "SCHEMA_VIOLATION");
}

#[tokio::test]
async fn nobody_logs_for_another() {
    let world = World::new().await.unwrap();
    let client = world.agent.client(&world.host).unwrap();
    let session = client.session(HOUR).await.unwrap();
    let approved = authorize(&client, session.id(), r#"{"text":"x"}"#).await;
    let other = world.acme.account("other", &["caller"]).await.unwrap().client(&world.host).unwrap();
    refused(log(&other, session.id(), &approved.invocation_id).await, &[ErrorCode::SessionInvalid]);
    // In a session of its own there is no such call.
    let own = other.session(HOUR).await.unwrap();
    let logged = log(&other, own.id(), &approved.invocation_id).await.unwrap();
    assert_eq!(logged.status(), v1::LogStatus::Rejected);
    let logged = log(&client, session.id(), &approved.invocation_id).await.unwrap();
    assert_eq!(logged.status(), v1::LogStatus::Logged, "the other's attempt took it away");
}

#[tokio::test]
async fn a_tool_that_ran_before_its_permit_is_rejected_on_the_record() {
    let world = World::new().await.unwrap();
    let client = world.agent.client(&world.host).unwrap();
    let session = client.session(HOUR).await.unwrap();
    let approved = authorize(&client, session.id(), r#"{"text":"x"}"#).await;
    let logged = log_after(&client, session.id(), &approved.invocation_id, 3_600_000).await.unwrap();
    assert_eq!(logged.status(), v1::LogStatus::Rejected, "it started an hour before it was permitted");
    let query = v1::QueryEventsRequest { action: "tool.log_result".into(), ..Default::default() };
    let events = world.acme.events(query).await.unwrap();
    let recorded = events.iter().find(|event| event.event_id == logged.event_id).expect("is recorded");
    assert_eq!(recorded.outcome(), v1::Outcome::Denied);
    assert!(recorded.reason.contains("before it was permitted"), "{}", recorded.reason);
    let open = session.invocation(&approved.invocation_id).await.unwrap();
    assert_eq!(open.status(), v1::InvocationStatus::InvocationOutcomeUnknown);
}

#[tokio::test]
async fn an_agent_does_not_settle_a_call_that_a_runtime_runs() {
    let world = World::new().await.unwrap();
    world.acme.offer(Contract::new("pay").effects(v1::Effects::NonIdempotent)).await.unwrap();
    let gate = Gate::new();
    let inside = gate.clone();
    let runtime = world.runtime().unwrap().tool("pay", move |_, _| {
        let gate = inside.clone();
        async move {
            gate.pass().await;
            Ok(json!({ "paid": true }))
        }
    });
    let _worker = Worker::start(runtime).await.unwrap();
    let client = world.agent.client(&world.host).unwrap();
    let session = client.session(HOUR).await.unwrap();
    let call = session.call("pay", json!({})).with_invocation_id("payment");
    let running = tokio::spawn(async move { call.await });
    gate.arrival().await;
    let logged = log(&client, session.id(), "payment").await.unwrap();
    assert_eq!(logged.status(), v1::LogStatus::Rejected, "the caller said what its own call answered");
    gate.open();
    let result = soon("the call ends", running).await.unwrap().unwrap().unwrap();
    assert_eq!(result.into_content().unwrap(), json!({ "paid": true }));
    let known = session.invocation("payment").await.unwrap();
    assert_eq!(known.status(), v1::InvocationStatus::InvocationSucceeded);
}
