use aesp_sdk::{
    ErrorCode, Tool,
    v1::{self, Effects, InvocationStatus},
};
use aesp_tests::{Contract, Worker, World, object, soon};
use serde_json::json;

use crate::support::{Gate, refused};

/// A Runtime whose `job` waits at a gate, and then answers with its name.
async fn job(world: &World, name: &'static str, gate: &Gate) -> Worker {
    let inside = gate.clone();
    let runtime = world.runtime().unwrap().tool("job", move |_, _| {
        let gate = inside.clone();
        async move {
            gate.pass().await;
            Ok(json!({ "by": name }))
        }
    });
    Worker::start(runtime).await.unwrap()
}

#[tokio::test]
async fn a_reading_call_moves_to_another_runtime_when_its_own_dies() {
    let world = World::new().await.unwrap();
    world.acme.offer(Contract::new("job")).await.unwrap();
    let (first, second) = (Gate::new(), Gate::new());
    let dying = job(&world, "first", &first).await;
    let session = world.session().await.unwrap();
    let call = session.call("job", json!({}));
    let call = tokio::spawn(async move { call.await });
    first.arrival().await;
    let _other = job(&world, "second", &second).await;
    drop(dying);
    second.arrival().await;
    second.open();
    let result = soon("the call ends", call).await.unwrap().unwrap().unwrap();
    assert_eq!(result.into_content().unwrap(), json!({ "by": "second" }));
}

#[tokio::test]
async fn a_call_with_effects_is_not_repeated_and_can_be_settled() {
    let world = World::new().await.unwrap();
    world.acme.offer(Contract::new("job").effects(Effects::NonIdempotent)).await.unwrap();
    let (first, second) = (Gate::new(), Gate::new());
    let dying = job(&world, "first", &first).await;
    let _other = job(&world, "second", &second).await;
    let session = world.session().await.unwrap();
    let call = session
        .call("job", json!({}))
        .with_invocation_id("payment")
        .timeout(std::time::Duration::from_secs(3));
    let call = tokio::spawn(async move { call.await });
    tokio::select! {
        () = first.arrival() => {}
        // The other one got it: let it finish, there is nothing to lose then.
        () = second.arrival() => { second.open(); soon("ends", call).await.unwrap().unwrap().unwrap(); return; }
    }
    drop(dying);
    let error = refused(soon("the call ends", call).await.unwrap().unwrap(), &[ErrorCode::OutcomeUnknown]);
    assert!(error.remediation().is_some());
    assert_eq!(
        session.invocation("payment").await.unwrap().status(),
        InvocationStatus::InvocationOutcomeUnknown
    );

    let operator = world.acme.account("operator", &["operator"]).await.unwrap().client(&world.host).unwrap();
    let request = v1::ResolveInvocationRequest {
        session_id: session.id().into(),
        invocation_id: "payment".into(),
        status: InvocationStatus::InvocationFailed.into(),
        justification: "the bank says that it was never made".into(),
    };
    operator.agent().resolve_invocation(request).await.unwrap();
    assert_eq!(session.invocation("payment").await.unwrap().status(), InvocationStatus::InvocationFailed);
}

#[tokio::test]
async fn an_unregistered_runtime_is_refused_and_an_unknown_tool_is_rejected() {
    let world = World::new().await.unwrap();
    let nobody = world.host.issue("nobody").await.unwrap();
    let runtime = Worker::builder(&world.host, "nobody", &nobody).unwrap().tool("echo", async |_, a| Ok(a));
    assert!(Worker::start(runtime).await.is_err(), "an unregistered Runtime serves");
    // A registered certificate under another's id.
    let runtime = Worker::builder(&world.host, "other", &world.certificate).unwrap();
    assert!(Worker::start(runtime.tool("echo", async |_, a| Ok(a))).await.is_err(), "a Runtime took an id");

    let runtime =
        world.runtime().unwrap().tool("echo", async |_, a| Ok(a)).tool("invented", async |_, a| Ok(a));
    let mut worker = Worker::start(runtime).await.unwrap();
    let status = worker.status("one is rejected", |status| !status.rejected.is_empty()).await.unwrap();
    assert!(status.rejected.contains_key("invented"));
    assert_eq!(status.fulfilled.len(), 1);
}

#[tokio::test]
async fn a_revoked_runtime_is_cut_off() {
    let world = World::new().await.unwrap();
    let mut worker = world.echo().await.unwrap();
    let request = v1::RevokeRuntimeRequest { runtime_id: "worker".into() };
    let revoked = world.administrator.runtimes().revoke_runtime(request).await.unwrap().into_inner();
    assert_eq!(revoked.closed_connections, 1, "the answer does not say what was closed");
    let away = |status: &aesp_sdk::RuntimeStatus| status.state != aesp_sdk::RuntimeState::Serving;
    // It ends, or it tries in vain: it does not serve.
    drop(worker.status("it serves no more", away).await);
    let session = world.session().await.unwrap();
    let call = session.call("echo", json!({ "text": "x" })).timeout(std::time::Duration::from_millis(500));
    assert!(call.await.is_err());
}

#[tokio::test]
async fn own_tools_are_for_development_only() {
    let world = World::new().await.unwrap();
    let worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let tool = || {
        let contract = Contract::new("draft_tool").takes(&object(&json!({ "n": { "type": "integer" } })));
        vec![(contract.0, Tool::new("draft_tool", async |_, args| Ok(args)))]
    };
    worker.handle().register(session.id(), tool());
    let mut worker = worker;
    worker.status("it is refused", |status| status.not_registered.len() == 1).await.unwrap();
    let codes = [ErrorCode::ToolNotFound, ErrorCode::PermissionDenied];
    refused(session.call("draft_tool", json!({ "n": 1 })).await, &codes);

    let request = v1::SetConfigValueRequest {
        tenant_id: world.acme.id().into(),
        key: "runtime.mode".into(),
        value: "DEVELOPMENT".into(),
        ..Default::default()
    };
    world.administrator.configuration().set_config_value(request).await.unwrap();
    worker.handle().register(session.id(), tool());
    worker.status("it is registered", |status| status.registered.len() == 1).await.unwrap();
    session.call("draft_tool", json!({ "n": 1 })).await.unwrap().into_content().unwrap();
}
