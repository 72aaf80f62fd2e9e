use aesp_sdk::{Client, Error, ErrorCode, v1};
use aesp_tests::{HOUR, World};

use crate::support::refused;

async fn authorize(client: &Client, session: &str, args: &str) -> v1::AuthorizeToolCallResponse {
    let call =
        v1::FunctionCall { name: "echo".into(), args_json: args.to_owned().into(), ..Default::default() };
    let request =
        v1::AuthorizeToolCallRequest { session_id: session.into(), call: Some(call), ..Default::default() };
    client.agent().authorize_tool_call(request).await.unwrap().into_inner()
}

async fn log(client: &Client, session: &str, invocation: &str) -> Result<v1::LogToolResultResponse, Error> {
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
        execution_time_ms: 5,
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
