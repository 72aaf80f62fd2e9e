use aesp_sdk::{Error, ErrorCode, v1};
use aesp_tests::{HOUR, Worker, World, soon};
use serde_json::json;

use crate::support::{DENIALS, Gate, refused};

/// Starts a call that waits in the tool.
async fn waiting(
    world: &World,
) -> (Worker, Gate, aesp_sdk::Session, tokio::task::JoinHandle<Result<aesp_sdk::CallResult, Error>>) {
    let gate = Gate::new();
    let worker = gate.echo(world.runtime().unwrap());
    let worker = Worker::start(worker).await.unwrap();
    let session = world.session().await.unwrap();
    let running = session.call("echo", json!({ "text": "slow" }));
    let running = tokio::spawn(async move { running.await });
    gate.arrival().await;
    (worker, gate, session, running)
}

fn or_cancelled() -> Vec<ErrorCode> {
    [DENIALS.as_slice(), &[ErrorCode::Cancelled]].concat()
}

#[tokio::test]
async fn a_role_taken_ends_the_running_call_and_those_to_come() {
    let world = World::new().await.unwrap();
    let (_worker, _gate, session, running) = waiting(&world).await;
    let cancelled = world.acme.revoke_role(&world.agent.principal.principal_id, "caller").await.unwrap();
    assert_eq!(cancelled, 1, "the answer does not say what was cancelled");
    refused(soon("the call ends", running).await.unwrap().unwrap(), &or_cancelled());
    refused(session.call("echo", json!({ "text": "again" })).await, &or_cancelled());
}

#[tokio::test]
async fn a_retired_contract_ends_the_running_call() {
    let world = World::new().await.unwrap();
    let (_worker, _gate, session, running) = waiting(&world).await;
    let request = v1::RetireContractRequest {
        tenant_id: world.acme.id().into(),
        name: "echo".into(),
        version: "1.0.0".into(),
        reason: "found unsafe".into(),
    };
    world.administrator.catalog().retire_contract(request).await.unwrap();
    let mut codes = or_cancelled();
    codes.push(ErrorCode::ToolNotFound);
    refused(soon("the call ends", running).await.unwrap().unwrap(), &codes);
    refused(session.call("echo", json!({ "text": "again" })).await, &codes);
}

#[tokio::test]
async fn a_suspended_tenant_calls_nothing_until_it_is_resumed() {
    let world = World::new().await.unwrap();
    let (_worker, gate, session, running) = waiting(&world).await;
    let tenant_id = world.acme.id().to_owned();
    let request = v1::SuspendTenantRequest { tenant_id: tenant_id.clone(), reason: "unpaid".into() };
    world.administrator.tenants().suspend_tenant(request).await.unwrap();
    let mut codes = or_cancelled();
    codes.push(ErrorCode::TenantSuspended);
    refused(soon("the call ends", running).await.unwrap().unwrap(), &codes);
    refused(session.call("echo", json!({ "text": "again" })).await, &codes);
    world.administrator.tenants().resume_tenant(v1::ResumeTenantRequest { tenant_id }).await.unwrap();
    let session = world.session().await.unwrap();
    let call = session.call("echo", json!({ "text": "resumed" }));
    let call = tokio::spawn(async move { call.await });
    gate.arrival().await;
    gate.open();
    soon("the call ends", call).await.unwrap().unwrap().unwrap().into_content().unwrap();
}

#[tokio::test]
async fn a_revoked_account_is_nobody() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let request = v1::RevokeServiceAccountRequest {
        tenant_id: world.acme.id().into(),
        principal_id: world.agent.principal.principal_id.clone(),
    };
    world.administrator.identity().revoke_service_account(request).await.unwrap();
    let codes = [ErrorCode::AuthenticationFailed, ErrorCode::InvalidCredentials];
    refused(session.call("echo", json!({ "text": "x" })).await, &codes);
    refused(world.agent.client(&world.host).unwrap().session(HOUR).await, &codes);
}
