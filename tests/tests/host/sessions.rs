use aesp_proto::SessionId;
use aesp_sdk::{Client, Error, ErrorCode, v1};
use aesp_tests::World;
use serde_json::json;

/// Does everything that can be done with a session, and returns what each came to.
async fn everything(client: &Client, session_id: &str) -> Vec<(&'static str, Result<(), Error>)> {
    let session_id = session_id.to_owned();
    let invocation_id = "theirs".to_owned();
    let mut agent = client.agent();
    let call =
        v1::FunctionCall { name: "echo".into(), args_json: r#"{"text":"x"}"#.into(), ..Default::default() };
    let invoke = v1::InvokeRequest {
        session_id: session_id.clone(),
        invocation_id: "mine".into(),
        call: Some(call.clone()),
        ..Default::default()
    };
    let mut all = Vec::new();
    macro_rules! ask {
        ($rpc:ident, $request:expr) => {
            let answer = agent.$rpc($request).await;
            all.push((stringify!($rpc), answer.map(|_| ()).map_err(|status| Error::from_status(&status))));
        };
    }
    ask!(get_session, v1::GetSessionRequest { session_id: session_id.clone() });
    ask!(list_tools, v1::ListToolsRequest { session_id: session_id.clone(), page: None });
    ask!(invoke, invoke.clone());
    let streamed = match agent.invoke_stream(invoke).await {
        Ok(parts) => parts.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    all.push(("invoke_stream", streamed.map_err(|status| Error::from_status(&status))));
    ask!(renew_session, v1::RenewSessionRequest { session_id: session_id.clone() });
    let named = (session_id.clone(), invocation_id.clone());
    ask!(cancel_invocation, v1::CancelInvocationRequest { session_id: named.0, invocation_id: named.1 });
    let named = (session_id.clone(), invocation_id.clone());
    ask!(get_invocation, v1::GetInvocationRequest { session_id: named.0, invocation_id: named.1 });
    let logged = v1::LogToolResultRequest {
        session_id: session_id.clone(),
        invocation_id,
        result: Some(v1::FunctionResult::default()),
        ..Default::default()
    };
    ask!(log_tool_result, logged);
    ask!(destroy_session, v1::DestroySessionRequest { session_id, force: true });
    all
}

#[tokio::test]
async fn anothers_session_is_no_session_whoever_knows_its_id() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let theirs = world.session().await.unwrap();
    theirs.call("echo", json!({ "text": "x" })).with_invocation_id("theirs").await.unwrap();
    let other = world.acme.account("other", &["caller"]).await.unwrap().client(&world.host).unwrap();
    let nowhere = SessionId::from_bytes([7; 16]).to_string();

    let foreign = everything(&other, theirs.id()).await;
    let missing = everything(&other, &nowhere).await;
    let heard = |outcome: &Result<(), Error>| match outcome {
        Ok(()) => "was let through".to_owned(),
        Err(error) => format!("{:?} {} {:?}", error.code(), error.message(), error.remediation()),
    };
    let mut wrong = Vec::new();
    for ((rpc, foreign), (_, missing)) in foreign.iter().zip(&missing) {
        let refused = foreign.as_ref().is_err_and(|error| error.code() == ErrorCode::SessionInvalid);
        if !refused || heard(foreign) != heard(missing) {
            wrong.push(format!("{rpc}: {} but of none: {}", heard(foreign), heard(missing)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The owner's own requests are as good as before: nothing of it was touched.
    for (rpc, own) in everything(&world.agent.client(&world.host).unwrap(), theirs.id()).await {
        assert!(own.is_ok(), "{rpc}: {own:?}");
    }
}
