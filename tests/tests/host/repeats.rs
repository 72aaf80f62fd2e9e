//! A call that is made again under the same invocation id.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aesp_sdk::{
    ErrorCode,
    v1::{self, Effects, InvocationStatus},
};
use aesp_tests::{Contract, Worker, World, object, soon};
use serde_json::json;

use crate::support::{Gate, refused};

#[tokio::test]
async fn a_repeat_of_a_running_call_joins_it() {
    let world = World::new().await.unwrap();
    let gate = Gate::new();
    let (inside, runs) = (gate.clone(), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&runs);
    let runtime = world.runtime().unwrap().tool("echo", move |_, args| {
        let (gate, runs) = (inside.clone(), Arc::clone(&counted));
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            gate.pass().await;
            Ok(args)
        }
    });
    let _worker = Worker::start(runtime).await.unwrap();
    let session = world.session().await.unwrap();
    let call = || {
        let call = session.call("echo", json!({ "text": "x" })).with_invocation_id("one");
        let call = call.timeout(Duration::from_secs(20));
        tokio::spawn(async move { call.send().await })
    };
    let first = call();
    gate.arrival().await;
    let second = call();
    let other = session.call("echo", json!({ "text": "other" })).with_invocation_id("one").await;
    refused(other, &[ErrorCode::StateConflict, ErrorCode::InvalidRequest]);
    gate.open();
    for answer in [first, second] {
        let answer = soon("the call ends", answer).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.into_content().unwrap(), json!({ "text": "x" }));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1, "it ran twice");
}

#[tokio::test]
async fn a_call_with_effects_that_reached_nobody_may_be_made_again() {
    let world = World::new().await.unwrap();
    world.acme.offer(Contract::new("pay").effects(Effects::NonIdempotent)).await.unwrap();
    let session = world.session().await.unwrap();
    let pay =
        || session.call("pay", json!({})).with_invocation_id("payment").timeout(Duration::from_secs(20));
    let nobody = [ErrorCode::ResourceUnavailable, ErrorCode::ServiceUnavailable, ErrorCode::ToolNotFound];
    refused(pay().send().await, &nobody);
    refused(session.invocation("payment").await, &[ErrorCode::NotFound]);
    let runtime = world.runtime().unwrap().tool("pay", async |_, _| Ok(json!({ "paid": true })));
    let _worker = Worker::start(runtime).await.unwrap();
    let paid = pay().send().await.unwrap();
    assert!(!paid.replayed);
    assert_eq!(paid.into_content().unwrap(), json!({ "paid": true }));
}

#[tokio::test]
async fn a_call_with_effects_that_answered_off_schema_failed_once_and_for_all() {
    let world = World::new().await.unwrap();
    let mut contract = Contract::new("pay").effects(Effects::NonIdempotent);
    contract.0.return_type_json = object(&json!({ "paid": { "type": "boolean" } })).to_string().into();
    world.acme.offer(contract).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let runtime = world.runtime().unwrap().tool("pay", move |_, _| {
        let runs = Arc::clone(&counted);
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(json!({ "paid": "perhaps" }))
        }
    });
    let _worker = Worker::start(runtime).await.unwrap();
    let session = world.session().await.unwrap();
    for _ in 0..2 {
        let outcome = session.call("pay", json!({})).with_invocation_id("payment").await;
        refused(outcome, &[ErrorCode::SchemaViolation]);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1, "it ran twice");
    let known = session.invocation("payment").await.unwrap();
    assert_eq!(known.status(), InvocationStatus::InvocationFailed);
}

#[tokio::test]
async fn what_an_operator_settled_is_what_a_repeat_hears() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let operator = world.acme.account("operator", &["operator"]).await.unwrap().client(&world.host).unwrap();
    let agent = world.agent.client(&world.host).unwrap();
    for (status, text) in [
        (InvocationStatus::InvocationSucceeded, "kept"),
        (InvocationStatus::InvocationFailed, "lost"),
        (InvocationStatus::InvocationCancelled, "never"),
    ] {
        let args = json!({ "text": text });
        let call = v1::FunctionCall {
            name: "echo".into(),
            args_json: args.to_string().into_bytes().into(),
            ..Default::default()
        };
        let request = v1::AuthorizeToolCallRequest {
            session_id: session.id().into(),
            call: Some(call),
            ..Default::default()
        };
        let open = agent.agent().authorize_tool_call(request).await.unwrap().into_inner().invocation_id;
        let request = v1::ResolveInvocationRequest {
            session_id: session.id().into(),
            invocation_id: open.clone(),
            status: status.into(),
            justification: "the ledger says so".into(),
        };
        operator.agent().resolve_invocation(request).await.unwrap();
        assert_eq!(session.invocation(&open).await.unwrap().status(), status);
        let again = session.call("echo", args).with_invocation_id(&open).await;
        match status {
            InvocationStatus::InvocationCancelled => drop(refused(again, &[ErrorCode::Cancelled])),
            _ => {
                let again = again.unwrap();
                assert!(again.replayed, "it ran after it was settled");
                assert_eq!(again.outcome.is_ok(), status == InvocationStatus::InvocationSucceeded);
            }
        }
    }
}

#[tokio::test]
async fn an_answer_too_large_to_be_kept_is_not_made_again_in_silence() {
    let world = World::new().await.unwrap();
    // The largest answer that is taken; what is kept of it has a few bytes more.
    let text = "x".repeat((1 << 20) - r#"{"text":""}"#.len());
    let runtime = world.runtime().unwrap().tool("echo", move |_, _| {
        let text = text.clone();
        async move { Ok(json!({ "text": text })) }
    });
    let _worker = Worker::start(runtime).await.unwrap();
    let session = world.session().await.unwrap();
    let call = || session.call("echo", json!({ "text": "x" })).with_invocation_id("large");
    call().await.unwrap().into_content().unwrap();
    let error = refused(call().await, &[ErrorCode::StateConflict]);
    assert!(error.remediation().is_some(), "it says no next step: {error:?}");
}
