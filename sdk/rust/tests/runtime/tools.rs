//! What is offered, refused, registered and withdrawn.

use aesp_proto::{
    ErrorCode,
    v1::{ContractDraft, RegisterToolsResponse, RejectedTool, host_frame, runtime_frame},
};
use aesp_sdk::{Runtime, Tool, ToolFailure};
use serde_json::json;

use super::{
    builder, content, failure, start,
    stub::{Pki, Stub, runtime::call},
    until,
};

#[tokio::test]
async fn refused_tools_are_told_and_offered_again() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (handle, _run) = start(builder(&pki).endpoint(stub.endpoint()));
    let mut host = stub.runtime().await;
    host.accept(0, 0).await;
    assert_eq!(host.offer().await, ["echo"]);
    host.fulfilled(&[], &[("echo", "there is no active contract")]);
    let status = until(&handle, "refused", |s| !s.rejected.is_empty()).await;
    assert_eq!(status.rejected["echo"], "there is no active contract");
    assert_eq!(host.offer().await, ["echo"]);
    host.fulfilled(&["echo@1.0.0".to_owned()], &[]);
    let status = until(&handle, "fulfilled", |s| !s.fulfilled.is_empty()).await;
    assert!(status.rejected.is_empty());

    handle.offer(vec![Tool::new("more", async |_, args| Ok(args))]);
    assert_eq!(host.offer().await, ["more"]);
    host.call(1, "more", &json!(1));
    let more = host.result().await;
    host.acknowledge(&more);
    handle.withdraw(&["echo".to_owned()], "gone");
    let Some(runtime_frame::Frame::CapabilityUpdate(update)) = host.next().await else { panic!("no update") };
    assert_eq!((update.withdrawn_tools, update.reason.as_str()), (vec!["echo".to_owned()], "gone"));
    host.call(2, "echo", &json!(1));
    assert_eq!(failure(&host.result().await).kind(), ToolFailure::NOT_FOUND);
    assert!(handle.status().borrow().fulfilled.is_empty());
}

#[tokio::test]
async fn tools_are_registered_for_one_session_and_again_after_a_reconnect() {
    let pki = Pki::new();
    let mut stub = Stub::start(&pki).await;
    let (handle, _run) = start(builder(&pki).endpoint(stub.endpoint()));
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;
    until(&handle, "fulfilled", |s| !s.fulfilled.is_empty()).await;
    let draft =
        ContractDraft { name: "echo".to_owned(), version: "0.1.0".to_owned(), ..ContractDraft::default() };
    handle.register("ses_x", vec![(draft.clone(), Tool::new("echo", async |_, _| Ok(json!("own"))))]);
    let Some(runtime_frame::Frame::Register(register)) = host.next().await else { panic!("not registered") };
    assert_eq!((register.session_id.as_str(), &register.tools), ("ses_x", &vec![draft]));
    let reason = "the tenant is in STRICT mode".to_owned();
    host.send(host_frame::Frame::Registered(RegisterToolsResponse {
        rejected: vec![RejectedTool { name: "echo".to_owned(), reason: reason.clone() }],
        ..Default::default()
    }));
    let status = until(&handle, "refused", |s| !s.not_registered.is_empty()).await;
    assert_eq!(status.not_registered["echo"], reason);

    host.call(1, "echo", &json!(1));
    assert_eq!(content(&host.result().await), json!("own"), "the session's own comes first");
    let mut other = call(2, "echo", &json!(1));
    other.session_id = "ses_y".to_owned();
    host.send(host_frame::Frame::Call(other));
    assert_eq!(content(&host.result().await), json!(1), "in its session only");

    host.close();
    let mut host = stub.runtime().await;
    host.welcome(0, 0).await;
    let Some(runtime_frame::Frame::Register(again)) = host.next().await else { panic!("not registered") };
    assert_eq!(again, register);
}

#[test]
fn an_incomplete_description_says_what_is_missing() {
    let pki = Pki::new();
    let endpoint: aesp_sdk::Endpoint = "localhost:1".parse().unwrap();
    let complete = || builder(&pki).endpoint(endpoint.clone());
    assert!(complete().build().is_ok());
    for incomplete in [
        builder(&pki),
        complete().concurrency(0),
        complete().concurrency(5000),
        Runtime::builder("", pki.tls_with_identity()).endpoint(endpoint.clone()),
        Runtime::builder("worker", pki.tls()).endpoint(endpoint.clone()),
    ] {
        assert_eq!(incomplete.build().unwrap_err().code(), ErrorCode::ConfigurationError);
    }
}
