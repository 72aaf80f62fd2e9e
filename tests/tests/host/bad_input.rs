use std::time::Duration;

use aesp_sdk::{
    ErrorCode,
    v1::{RuntimeFrame, StreamChunk, ToolCall, runtime_frame::Frame},
};
use aesp_tests::{World, descriptors::every_rpc, soon};
use serde_json::json;

use crate::{
    raw_runtime::{Raw, SUCCESS, calling, goes_on},
    support::refused,
};

#[tokio::test]
async fn a_runtime_that_answers_nonsense_fails_that_call_and_no_other() {
    let world = World::new().await.unwrap();
    let mut raw = Raw::connect(&world).await;
    let session = world.session().await.unwrap();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes();
    let answers: [(&str, i32, Vec<u8>); 7] = [
        ("an unknown status", 99, b"{}".to_vec()),
        ("no status", 0, b"{}".to_vec()),
        ("no JSON", SUCCESS, b"{".to_vec()),
        ("no UTF-8", SUCCESS, b"{\"text\":\"\xff\xfe\"}".to_vec()),
        ("off schema", SUCCESS, b"[1]".to_vec()),
        ("too deep", SUCCESS, deep),
        ("too large", SUCCESS, format!("{{\"text\":\"{}\"}}", "x".repeat(2 << 20)).into_bytes()),
    ];
    for (what, status, content) in answers {
        let running = calling(&session, what);
        let call = raw.call().await;
        raw.answer(&call, status, content);
        let outcome = soon("the call ends", running).await.unwrap().unwrap();
        let error = outcome.and_then(aesp_sdk::CallResult::into_content).expect_err(what);
        assert!(!error.message().is_empty(), "{what}: {error:?}");
        assert_ne!(error.code(), ErrorCode::InternalError, "{what}: {error:?}");
        goes_on(&mut raw, &session).await;
    }
}

#[tokio::test]
async fn results_for_unknown_calls_and_results_twice_change_nothing() {
    let world = World::new().await.unwrap();
    let mut raw = Raw::connect(&world).await;
    let session = world.session().await.unwrap();
    let running = calling(&session, "x");
    let call = raw.call().await;
    let unknown = ToolCall { dispatch_id: vec![7; 16], ..call.clone() };
    raw.answer(&unknown, SUCCESS, br#"{"text":"forged"}"#.to_vec());
    raw.say(Frame::Chunk(StreamChunk { dispatch_id: vec![7; 16], is_final: true, ..Default::default() }));
    raw.answer(&call, SUCCESS, br#"{"text":"first"}"#.to_vec());
    raw.answer(&call, SUCCESS, br#"{"text":"second"}"#.to_vec());
    let result = soon("the call ends", running).await.unwrap().unwrap().unwrap();
    let invocation = result.invocation_id.clone();
    assert_eq!(result.into_content().unwrap(), json!({ "text": "first" }));
    goes_on(&mut raw, &session).await;
    let again = session.call("echo", json!({ "text": "x" })).with_invocation_id(invocation).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.into_content().unwrap(), json!({ "text": "first" }));
}

#[tokio::test]
async fn a_runtime_that_answers_late_is_too_late_and_one_that_floods_is_cut_off() {
    let world = World::new().await.unwrap();
    let mut raw = Raw::connect(&world).await;
    let session = world.session().await.unwrap();
    let call = session.call("echo", json!({ "text": "x" })).timeout(Duration::from_millis(300));
    let running = tokio::spawn(async move { call.send().await });
    let late = raw.call().await;
    refused(soon("the call ends", running).await.unwrap().unwrap(), &[ErrorCode::DeadlineExceeded]);
    raw.answer(&late, SUCCESS, br#"{"text":"late"}"#.to_vec());
    goes_on(&mut raw, &session).await;

    for _ in 0..100_000 {
        if raw.frames.send(RuntimeFrame { frame: None }).is_err() {
            break;
        }
    }
    let cut_off = async { while let Ok(Some(_)) = raw.heard.message().await {} };
    soon("it is cut off", cut_off).await.unwrap();
    let mut other = Raw::connect(&world).await;
    goes_on(&mut other, &session).await;
}

#[tokio::test]
async fn requests_of_nonsense_get_a_clear_error_and_lose_nothing() {
    let world = World::new().await.unwrap();
    let mut raw = Raw::connect(&world).await;
    let session = world.session().await.unwrap();
    let client = world.agent.client(&world.host).unwrap();
    let rpcs = every_rpc();
    let rpc = |path: &str| rpcs.iter().find(|rpc| rpc.path.ends_with(path)).unwrap();
    // A string that is no UTF-8, a length beyond the end, a group that never ends, a varint without end.
    for bytes in
        [&b"\x0a\x02\xff\xfe"[..], b"\x0a\x7f", b"\x0b", b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
    {
        let outcome = rpc("/Invoke").send(&client, bytes.to_vec()).await;
        let error = refused(outcome, &[ErrorCode::InvalidRequest]);
        assert!(error.remediation().is_some(), "it says no next step: {error:?}");
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let args: [&[u8]; 6] = [
        b"{\"text\":\"\xff\"}",
        b"{\"text\":",
        deep.as_bytes(),
        b"{\"text\":1e999}",
        b"{\"text\":99999999999999999999999999999999999999}",
        b"{\"text\":\"a\",\"text\":1}",
    ];
    for args in args {
        let call = aesp_sdk::v1::FunctionCall {
            name: "echo".into(),
            args_json: args.to_vec().into(),
            ..Default::default()
        };
        let request = aesp_sdk::v1::InvokeRequest {
            session_id: session.id().into(),
            invocation_id: "bad".into(),
            call: Some(call),
            ..Default::default()
        };
        let answer = client.agent().invoke(request).await.map_err(|s| aesp_sdk::Error::from_status(&s));
        refused(answer, &[ErrorCode::SchemaViolation, ErrorCode::InvalidRequest]);
    }
    let operator = world.acme.account("operator", &["operator"]).await.unwrap().client(&world.host).unwrap();
    let request = aesp_sdk::v1::ResolveInvocationRequest {
        session_id: session.id().into(),
        invocation_id: "bad".into(),
        status: 4711,
        justification: "an unknown status".into(),
    };
    let answer = operator.agent().resolve_invocation(request).await;
    refused(answer.map_err(|s| aesp_sdk::Error::from_status(&s)), &[ErrorCode::InvalidRequest]);
    goes_on(&mut raw, &session).await;
}
