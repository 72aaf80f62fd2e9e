//! A Runtime that calls tools itself, as itself and on behalf of the caller of the call that it works on.

use aesp_proto::{DispatchId, Entropy};
use aesp_sdk::{CallContext, Client, Error, ErrorCode, ToolFailure, v1};
use aesp_tests::{Contract, HOUR, Worker, World};
use serde_json::{Value, json};

use crate::support::{DENIALS, refused};

/// Lets the Runtime's certificate act as an account with these roles; returns the account.
async fn bind(world: &World, roles: &[&str]) -> v1::Principal {
    let account = world.acme.account("worker-account", roles).await.unwrap();
    let request = v1::BindCertificateRequest {
        tenant_id: world.acme.id().into(),
        principal_id: account.principal.principal_id.clone(),
        certificate_identity: world.certificate.identity.clone(),
    };
    world.administrator.identity().bind_certificate(request).await.unwrap();
    account.principal
}

/// Answers with what the inner call answered, or with the code that refused it.
async fn relay(call: CallContext, tool: &str, args: Value) -> Result<Value, ToolFailure> {
    match call.call(tool, args).await {
        Ok(result) => result.into_content().map_err(|error| ToolFailure::new(error.to_string())),
        Err(error) => Ok(json!({ "refused": error.code().as_str_name() })),
    }
}

/// A world in which `outer` calls `echo`, and `deep` calls itself.
async fn nesting() -> (World, Worker) {
    let world = World::new().await.unwrap();
    for tool in ["outer", "deep"] {
        world.acme.offer(Contract::new(tool)).await.unwrap();
    }
    let runtime = world.runtime().unwrap().tool("echo", async |_, args| Ok(args));
    let runtime =
        runtime.tool("outer", async |call, _| relay(call, "echo", json!({ "text": "inner" })).await);
    let runtime = runtime.tool("deep", async |call, _| {
        let depth = call.depth;
        Ok(json!({ "depth": depth, "inner": relay(call, "deep", json!({})).await? }))
    });
    let worker = Worker::start(runtime).await.unwrap();
    (world, worker)
}

#[tokio::test]
async fn a_runtime_calls_on_behalf_of_its_caller_and_both_are_on_record() {
    let (world, _worker) = nesting().await;
    let runtime = bind(&world, &["caller"]).await;
    let session = world.session().await.unwrap();
    let answer = session.call("outer", json!({})).await.unwrap().into_content().unwrap();
    assert_eq!(answer, json!({ "text": "inner" }));
    let query = v1::QueryEventsRequest { action: "tool.invoke".into(), ..Default::default() };
    let events = world.acme.events(query).await.unwrap();
    let inner = events.iter().find(|event| event.principal_id == runtime.principal_id).expect("is recorded");
    assert_eq!(inner.on_behalf_of, world.agent.principal.principal_id);
    assert_eq!(inner.session_id, session.id());
}

#[tokio::test]
async fn an_inner_call_needs_the_rights_of_both() {
    let (world, _worker) = nesting().await;
    world.acme.role("outer-only", &["tool:outer"]).await.unwrap();
    let runtime = bind(&world, &["outer-only"]).await;
    let session = world.session().await.unwrap();
    let denied = |answer: &Value| {
        let code = answer["refused"].as_str().unwrap_or_default().to_owned();
        assert!(DENIALS.iter().any(|denial| denial.as_str_name() == code), "{answer}");
    };
    // The caller may call echo; its Runtime may not.
    denied(&session.call("outer", json!({})).await.unwrap().into_content().unwrap());

    let request = v1::AssignRoleRequest {
        tenant_id: world.acme.id().into(),
        principal_id: runtime.principal_id,
        role: "caller".into(),
        expires_at_ms: 0,
    };
    world.administrator.authorization().assign_role(request).await.unwrap();
    let narrow = world.acme.account("narrow", &["outer-only"]).await.unwrap().client(&world.host).unwrap();
    let narrow = narrow.session(HOUR).await.unwrap();
    // The Runtime may call echo now; the caller may not, and does not by its Runtime.
    denied(&narrow.call("outer", json!({})).await.unwrap().into_content().unwrap());
    let answer = session.call("outer", json!({})).await.unwrap().into_content().unwrap();
    assert_eq!(answer, json!({ "text": "inner" }));
}

#[tokio::test]
async fn calls_are_nested_so_deep_and_no_deeper() {
    let (world, _worker) = nesting().await;
    bind(&world, &["caller"]).await;
    let session = world.session().await.unwrap();
    let mut answer = session.call("deep", json!({})).await.unwrap().into_content().unwrap();
    for depth in 0..=4 {
        assert_eq!(answer["depth"], depth, "{answer}");
        answer = answer["inner"].take();
    }
    assert_eq!(answer, json!({ "refused": "QUOTA_EXCEEDED" }));
}

#[tokio::test]
async fn nobody_calls_on_behalf_of_a_call_that_it_does_not_work_on() {
    let (world, _worker) = nesting().await;
    bind(&world, &["caller"]).await;
    let session = world.session().await.unwrap();
    let tls = world.host.tls(Some(&world.certificate)).unwrap();
    let runtime = Client::builder(tls).endpoint(world.host.endpoint()).build().unwrap();
    let agent = world.agent.client(&world.host).unwrap();
    for client in [runtime, agent] {
        let call = v1::FunctionCall {
            name: "echo".into(),
            args_json: r#"{"text":"x"}"#.into(),
            ..Default::default()
        };
        let request = v1::InvokeRequest {
            session_id: session.id().into(),
            invocation_id: "borrowed".into(),
            call: Some(call),
            on_behalf_of_dispatch_id: DispatchId::random(&Entropy::from_system()).to_string(),
            ..Default::default()
        };
        let answer = client.agent().invoke(request).await.map_err(|status| Error::from_status(&status));
        refused(answer, &[ErrorCode::AuthorizationDenied]);
    }
}
