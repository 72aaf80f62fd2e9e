//! The client against a stub of the Host.

mod stub;

use std::{sync::atomic::Ordering, time::Duration};

use aesp_proto::{Error, ErrorCode, v1};
use aesp_sdk::{Client, ClientBuilder, Credentials, Entropy, Retry, StreamPart, Tls};
use serde_json::json;
use stub::{Pki, Stub, authentication::API_KEY};
use tonic::Status;

const QUICK: Retry =
    Retry { attempts: 4, base: Duration::from_millis(5), longest: Duration::from_millis(200) };

fn builder(tls: Tls) -> ClientBuilder {
    Client::builder(tls)
        .credentials(Credentials::ApiKey(API_KEY.into()))
        .retry(QUICK)
        .entropy(Entropy::from_seed(1))
}

fn busy() -> Status {
    Error::new(ErrorCode::ServiceUnavailable, "busy").retry_after(Duration::from_millis(20)).into()
}

#[tokio::test]
async fn a_call_is_repeated_under_one_invocation_id() {
    let pki = Pki::new();
    let stub = Stub::start(&pki).await;
    let client = builder(pki.tls()).endpoint(stub.endpoint()).build().unwrap();
    let session = client.session(Duration::from_secs(60)).await.unwrap();
    stub.script.refuse("invoke", [busy(), busy()]);

    let result = session.call("echo", json!({"a": 1})).await.unwrap();

    assert_eq!(result.outcome, Ok(json!({"a": 1})));
    assert_eq!(result.event_id, "evt");
    let heard = stub.script.heard("invoke");
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|(_, invocation)| *invocation == result.invocation_id));
    let next = session.call("echo", json!({})).await.unwrap();
    assert_ne!(next.invocation_id, result.invocation_id);
}

#[tokio::test]
async fn refusals_arrive_whole_and_are_not_repeated() {
    let pki = Pki::new();
    let stub = Stub::start(&pki).await;
    let client = builder(pki.tls()).endpoint(stub.endpoint()).build().unwrap();
    let session = client.session(Duration::from_secs(60)).await.unwrap();
    let denied = Error::new(ErrorCode::AuthorizationDenied, "not you").remedy("ask").decided_by("dec_1");
    stub.script.refuse("invoke", [denied.into()]);

    let error = session.call("echo", json!({})).await.unwrap_err();

    assert_eq!((error.code(), error.message()), (ErrorCode::AuthorizationDenied, "not you"));
    assert_eq!((error.remediation(), error.decision_id()), (Some("ask"), Some("dec_1")));
    assert_eq!(stub.script.heard("invoke").len(), 1);

    stub.script.refuse("invoke", [busy(), busy(), busy(), busy()]);
    let error = session.call("echo", json!({})).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ServiceUnavailable, "attempts are bounded");

    let failed = session.call("broken", json!({})).await.unwrap();
    assert_eq!(failed.outcome.as_ref().unwrap_err().message(), "no disk");
    assert_eq!(failed.into_content().unwrap_err().code(), ErrorCode::ToolFailed);
}

#[tokio::test]
async fn many_calls_at_once_log_in_once() {
    let pki = Pki::new();
    let stub = Stub::start(&pki).await;
    let client = builder(pki.tls()).endpoint(stub.endpoint()).build().unwrap();
    let session = client.resume("ses_1").await.unwrap();
    let calls = (0..50).map(|n| session.call("echo", json!({"n": n})).send());
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(stub.script.logins.load(Ordering::Relaxed), 1);
    assert!(stub.script.heard("invoke").iter().all(|(token, _)| token == "Bearer login-1"));
}

#[tokio::test]
async fn tokens_are_renewed_ahead_of_their_end_and_after_a_refusal() {
    let pki = Pki::new();
    let stub = Stub::start(&pki).await;
    // Three quarters of nothing have passed at once, so that every request finds its token due.
    stub.script.token_life_seconds.store(0, Ordering::Relaxed);
    let client = builder(pki.tls()).endpoint(stub.endpoint()).build().unwrap();
    let session = client.resume("ses_1").await.unwrap();
    stub.script.token_life_seconds.store(3600, Ordering::Relaxed);
    session.call("echo", json!({})).await.unwrap();
    assert_eq!(stub.script.heard("refresh"), [(String::new(), "refresh-login-1".to_owned())]);
    assert_eq!(stub.script.logins.load(Ordering::Relaxed), 1);

    // Revoked, together with the refresh token: the API key still opens.
    stub.script.valid_tokens.lock().unwrap().clear();
    stub.script.refuse("refresh", [Error::new(ErrorCode::InvalidCredentials, "revoked").into()]);
    session.call("echo", json!({})).await.unwrap();
    assert_eq!(stub.script.logins.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_wrong_key_is_said_so_once() {
    let pki = Pki::new();
    let stub = Stub::start(&pki).await;
    let client = builder(pki.tls())
        .credentials(Credentials::ApiKey("aesp_wrong".into()))
        .endpoint(stub.endpoint())
        .build()
        .unwrap();
    let error = client.session(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidCredentials);
    assert_eq!(stub.script.heard("login").len(), 1);
    assert!(!format!("{client:?} {error:?}").contains("aesp_wrong"));
}

#[tokio::test]
async fn another_node_takes_over() {
    let pki = Pki::new();
    let (first, second) = (Stub::start(&pki).await, Stub::start(&pki).await);
    second.script.valid_tokens.lock().unwrap().push("static".to_owned());
    first.script.valid_tokens.lock().unwrap().push("static".to_owned());
    let client = builder(pki.tls())
        .credentials(Credentials::Token("static".into()))
        .endpoints([first.endpoint(), second.endpoint()])
        .build()
        .unwrap();
    let session = client.resume("ses_1").await.unwrap();
    session.call("echo", json!({})).await.unwrap();
    assert_eq!(first.script.heard("invoke").len(), 1);

    // It says that it can't: the next attempt goes elsewhere and stays there.
    first.script.refuse("invoke", [busy()]);
    session.call("echo", json!({})).await.unwrap();
    session.call("echo", json!({})).await.unwrap();
    assert_eq!((first.script.heard("invoke").len(), second.script.heard("invoke").len()), (2, 2));

    // It is gone.
    second.kill();
    session.call("echo", json!({})).await.unwrap();
    assert_eq!(first.script.heard("invoke").len(), 3);
}

#[tokio::test]
async fn a_node_of_another_authority_is_not_trusted() {
    let (pki, other) = (Pki::new(), Pki::new());
    let stub = Stub::start(&other).await;
    let client = builder(pki.tls()).retry(Retry::NEVER).endpoint(stub.endpoint()).build().unwrap();
    let error = client.session(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CertificateInvalid, "{error}");
    assert!(stub.script.heard("login").is_empty(), "the key must not reach it");
}

#[tokio::test]
async fn a_certificate_that_the_host_does_not_accept_is_said_so() {
    let (pki, other) = (Pki::new(), Pki::new());
    let stub = Stub::start(&pki).await;
    let client = Client::builder(pki.tls_with_identity_of(&other)).endpoint(stub.endpoint()).build().unwrap();
    let error = client.resume("ses_1").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CertificateInvalid, "{error}");
    assert!(error.remediation().unwrap().contains("client certificate"));
}

#[tokio::test]
async fn those_who_wait_for_one_attempt_share_its_failure() {
    let pki = Pki::new();
    let stub = Stub::start(&pki).await;
    let wrong = builder(pki.tls()).credentials(Credentials::ApiKey("aesp_wrong".into()));
    let client = wrong.endpoint(stub.endpoint()).build().unwrap();
    let sessions = (0..20).map(|_| client.resume("ses_1"));
    for outcome in futures::future::join_all(sessions).await {
        assert_eq!(outcome.unwrap_err().code(), ErrorCode::InvalidCredentials);
    }
    assert_eq!(stub.script.heard("login").len(), 1);
}

#[tokio::test]
async fn streams_have_chunks_and_one_end() {
    let pki = Pki::new();
    let stub = Stub::start(&pki).await;
    let client = builder(pki.tls()).endpoint(stub.endpoint()).build().unwrap();
    let session = client.resume("ses_1").await.unwrap();
    stub.script.refuse("invoke_stream", [busy()]);
    let mut stream = session.call_stream("count", json!({"to": 3})).await.unwrap();
    let mut chunks = Vec::new();
    let end = loop {
        match stream.next().await.unwrap().expect("has an end") {
            StreamPart::Chunk(chunk) => chunks.push(chunk),
            StreamPart::End(end) => break end,
        }
    };
    assert_eq!(chunks, [json!(0), json!(1), json!(2)]);
    assert_eq!(end.outcome, Ok(json!({"to": 3})));
    assert!(stream.next().await.unwrap().is_none());

    let mut torn = session.call_stream("torn", json!({})).await.unwrap();
    let error = loop {
        match torn.next().await {
            Ok(part) => assert!(matches!(part, Some(StreamPart::Chunk(_)))),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), ErrorCode::TransportError);
    let error = session.call_stream("refused", json!({})).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AuthorizationDenied);
}

#[tokio::test]
async fn a_session_lists_renews_cancels_and_closes() {
    let pki = Pki::new();
    let stub = Stub::start(&pki).await;
    let client = builder(pki.tls()).endpoint(stub.endpoint()).build().unwrap();
    let mut session = client.session(Duration::from_secs(60)).await.unwrap();
    *stub.script.tools.lock().unwrap() =
        ["a", "b", "c"].map(|name| v1::ToolSummary { name: name.to_owned(), ..Default::default() }).to_vec();
    let names: Vec<_> = session.list_tools().await.unwrap().into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(session.renew().await.unwrap(), Duration::from_secs(60));
    assert_eq!(session.expires_at().0, 1234);
    assert!(session.cancel("inv_1").await.unwrap());
    assert_eq!(session.close(true).await.unwrap(), 1);
}
