//! Nodes that join with a token.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use aesp_sdk::{Client, Credentials, Error, ErrorCode, v1};
use aesp_tests::{Host, Site, Trio, balanced, scrape, soon, until};
use anyhow::ensure;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::{load::Load, support::refused};

/// What a command printed, and with which code it ended.
struct Said {
    code: Option<i32>,
    shown: Value,
    error: Value,
}

async fn run(host: &Host, api_key: Option<&str>, arguments: &[&str]) -> Said {
    let mut command = host.command();
    if let Some(key) = api_key {
        command.env("AESP_API_KEY", key);
    }
    let output = soon("the command ends", command.args(arguments).output()).await.unwrap().unwrap();
    let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    let error = serde_json::from_str::<Value>(&last).unwrap_or_else(|_| last.into());
    Said {
        code: output.status.code(),
        shown: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        error: error["error"].clone(),
    }
}

async fn invited(host: &Host, arguments: &[&str]) -> Value {
    let arguments = [&["cluster", "join-token"], arguments].concat();
    let said = run(host, Some(host.administrator_key()), &arguments).await;
    assert_eq!(said.code, Some(0), "{}", said.error);
    said.shown
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

/// Joins as a new machine would.
async fn join(host: &Host, name: &str, token: &str, fingerprint: &str, place: &Path) -> Said {
    let place = place.display().to_string();
    let mut arguments = vec!["node", "join", "--name", name, "--token", token, "--data-dir", &place];
    arguments.extend(["--ca-fingerprint", fingerprint]);
    for listener in ["--listen-grpc", "--listen-https", "--listen-metrics", "--listen-peers"] {
        arguments.extend([listener, "127.0.0.1:0"]);
    }
    run(host, None, &arguments).await
}

async fn recorded(administrator: &Client, outcome: v1::Outcome, reason: &str) -> v1::AuditEvent {
    until(reason, async || {
        let query = v1::QueryEventsRequest {
            action: "cluster.join".into(),
            outcome: outcome.into(),
            ..Default::default()
        };
        let found = administrator.audit().query_events(query).await?.into_inner().events;
        let event = found.iter().find(|event| event.reason == reason).cloned();
        event.ok_or_else(|| anyhow::anyhow!("no such event among {found:?}"))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_cluster_grows_by_a_node_that_joined_with_a_token() {
    let trio = Trio::new().await.unwrap();
    let mut load = Load::start(&trio).await;
    let host = &trio.nodes[0];
    let place = trio.site.folder().join("n4");
    let invitation = invited(host, &["--node", "n4", "--host", "n4.example"]).await;
    let (token, fingerprint) = (text(&invitation, "join_token"), text(&invitation, "ca_fingerprint"));

    // With somebody in between, the token isn't even shown to them.
    let said = join(host, "n4", token, &"0".repeat(64), &place).await;
    assert_eq!(said.code, Some(1));
    assert!(text(&said.error, "message").contains("no authority with this fingerprint"), "{}", said.error);
    assert!(!place.exists());

    let said = join(host, "n4", token, fingerprint, &place).await;
    assert_eq!(said.code, Some(0), "{}", said.error);
    assert_eq!(text(&said.shown, "identity"), "spiffe://aesp.local/node/n4");
    assert_eq!(said.shown["missing"], Value::Array(vec![]), "it is on the machine of the others");
    let mode = |name: &str| fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("aesp.toml"), mode("pki/node.key")), (0o700, 0o600, 0o600));
    let config: PathBuf = text(&said.shown, "config").into();
    let mut check = trio.site.command();
    check.env("AESP_CONFIG", &config).args(["config", "check"]);
    aesp_tests::command::json_of(check).await.expect("the configuration is whole");

    load.goes_on().await;
    let joined = trio.site.node_by("n4", config).await.unwrap();
    let nodes = balanced(&trio.administrator, 4).await.unwrap();
    assert!(nodes.iter().any(|node| node.name == "n4"), "{nodes:?}");
    load.goes_on().await;
    let session = trio.agent.client(&joined).unwrap().session(aesp_tests::HOUR).await.unwrap();
    let call = session.call("echo", serde_json::json!({ "text": "new" }));
    soon("the new node answers", call.send()).await.unwrap().unwrap().into_content().unwrap();
    load.end().await;

    let event = recorded(&trio.administrator, v1::Outcome::Success, "").await;
    assert_eq!(event.resource, "node:n4", "{event:?}");
    // Once is once, and who used it can be seen.
    let said = join(host, "n4", token, fingerprint, &trio.site.folder().join("n4-again")).await;
    assert_eq!((said.code, text(&said.error, "code")), (Some(1), "STATE_CONFLICT"), "{}", said.error);
    let listed = run(host, Some(host.administrator_key()), &["cluster", "join-tokens"]).await.shown;
    assert_eq!((text(&listed["tokens"][0], "state"), text(&listed["tokens"][0], "used_by")), ("used", "n4"));
    assert!(!listed.to_string().contains("aespj_"), "a listing shows a secret");
    let secret = fs::read_to_string(trio.site.folder().join("data/cluster.secret")).unwrap();
    for name in ["n1", "n2", "n3", "n4"] {
        let log = fs::read_to_string(trio.site.folder().join(format!("{name}.log"))).unwrap();
        assert!(!log.contains("aespj_") && !log.contains(secret.trim()), "{name} logs a secret");
    }
}

/// A request that is right.
fn csr() -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
}

async fn ask(client: &Client, token: &str, node: &str, request: Vec<u8>) -> Result<(), Error> {
    let request =
        v1::JoinClusterRequest { join_token: token.into(), node: node.into(), certificate_request: request };
    client.cluster().join_cluster(request).await.map(drop).map_err(|status| Error::from_status(&status))
}

#[tokio::test]
async fn tokens_that_are_wrong_in_one_thing_let_nobody_in_and_are_counted() {
    let site = Site::cluster(Vec::new()).await.unwrap();
    let host = site.node("n1").await.unwrap();
    let administrator = host.administrator().unwrap();
    balanced(&administrator, 1).await.unwrap();
    let stranger = host.client(Credentials::Token(String::new().into())).unwrap();
    let token = |invitation: &Value| text(invitation, "join_token").to_owned();
    let good = token(&invited(&host, &["--node", "n4"]).await);
    let short = token(&invited(&host, &["--ttl", "1s"]).await);
    let any = token(&invited(&host, &[]).await);
    let revoked = invited(&host, &["--node", "n4"]).await;
    let id = text(&revoked["token"], "token_id");
    let said = run(&host, Some(host.administrator_key()), &["cluster", "revoke-join-token", id]).await;
    assert_eq!(said.code, Some(0), "{}", said.error);
    let mut mistyped = good.clone();
    mistyped.replace_range(20..21, if &good[20..21] == "0" { "1" } else { "0" });
    // As good as any in its form, and of another cluster.
    let elsewhere = {
        let site = Site::cluster(Vec::new()).await.unwrap();
        let other = site.node("n1").await.unwrap();
        balanced(&other.administrator().unwrap(), 1).await.unwrap();
        token(&invited(&other, &[]).await)
    };
    let mut forged = csr();
    *forged.last_mut().unwrap() ^= 1;
    until("the short one has expired", async || {
        let listed = run(&host, Some(host.administrator_key()), &["cluster", "join-tokens"]).await.shown;
        let mut states = listed["tokens"].as_array().unwrap().iter().map(|token| text(token, "state"));
        ensure!(states.any(|state| state == "expired"), "{listed}");
        Ok(())
    })
    .await
    .unwrap();

    let wrong = [
        ("malformed_token", mistyped.as_str(), "n4", csr(), ErrorCode::InvalidRequest),
        ("unknown_token", elsewhere.as_str(), "n4", csr(), ErrorCode::InvalidCredentials),
        ("expired_token", short.as_str(), "n4", csr(), ErrorCode::AuthenticationFailed),
        ("revoked_token", text(&revoked, "join_token"), "n4", csr(), ErrorCode::AuthenticationFailed),
        ("other_node", good.as_str(), "n5", csr(), ErrorCode::PermissionDenied),
        ("bad_request", good.as_str(), "n4", forged, ErrorCode::InvalidRequest),
        ("bad_request", good.as_str(), "n4", b"no request".to_vec(), ErrorCode::InvalidRequest),
        ("name_taken", any.as_str(), "n1", csr(), ErrorCode::StateConflict),
        ("bad_name", any.as_str(), "../n1", csr(), ErrorCode::InvalidRequest),
    ];
    for (reason, token, node, request, code) in wrong {
        let error = refused(ask(&stranger, token, node, request).await, &[code]);
        assert!(error.remediation().is_some() || code == ErrorCode::InvalidRequest, "{reason}: {error}");
        recorded(&administrator, v1::Outcome::Denied, reason).await;
        let metric = format!("aesp_cluster_join_attempts_total{{outcome=\"{reason}\"}}");
        assert!(scrape(&host, &metric).await.unwrap() >= 1.0, "{reason} is not counted");
    }
    // None of that has used the good one up; two at once get in once.
    let (first, second) =
        tokio::join!(ask(&stranger, &good, "n4", csr()), ask(&stranger, &good, "n4", csr()));
    let late = first.err().or(second.err()).expect("one of two is late");
    assert_eq!(late.code(), ErrorCode::StateConflict, "{late}");
    assert!(scrape(&host, "aesp_cluster_join_attempts_total{outcome=\"joined\"}").await.unwrap() == 1.0);

    // A flood is held off before anything is looked at, and is one event.
    let mut held_off = None;
    for _ in 0..60 {
        if let Err(error) = ask(&stranger, &elsewhere, "n4", csr()).await
            && error.code() == ErrorCode::RateLimitExceeded
        {
            held_off = Some(error);
        }
    }
    let held_off = held_off.expect("a flood is held off");
    assert!(held_off.retry_delay().is_some(), "{held_off}");
    recorded(&administrator, v1::Outcome::Denied, "rate_limited").await;
}

#[tokio::test]
async fn where_the_authority_s_key_is_not_operators_hear_what_to_do() {
    let site = Site::cluster(Vec::new()).await.unwrap();
    let host = site.node("n1").await.unwrap();
    balanced(&host.administrator().unwrap(), 1).await.unwrap();
    let before = invited(&host, &["--node", "n2"]).await;
    let key = site.folder().join("data/pki/ca.key");
    fs::rename(&key, key.with_extension("away")).unwrap();
    let said = run(&host, Some(host.administrator_key()), &["cluster", "join-token"]).await;
    assert_eq!((said.code, text(&said.error, "code")), (Some(64), "CONFIGURATION_ERROR"), "{}", said.error);
    assert!(text(&said.error, "next").contains("aesp pki node"), "{}", said.error);
    let place = site.folder().join("n2");
    let (token, fingerprint) = (text(&before, "join_token"), text(&before, "ca_fingerprint"));
    let said = join(&host, "n2", token, fingerprint, &place).await;
    assert!(text(&said.error, "next").contains("aesp pki node"), "{}", said.error);
    assert!(!place.exists());
    // The token is as good as before.
    fs::rename(key.with_extension("away"), &key).unwrap();
    let said = join(&host, "n2", token, fingerprint, &place).await;
    assert_eq!(said.code, Some(0), "{}", said.error);

    let alone = Host::start().await.unwrap();
    let said = run(&alone, Some(alone.administrator_key()), &["cluster", "join-token"]).await;
    assert_eq!((said.code, text(&said.error, "code")), (Some(1), "STATE_CONFLICT"), "{}", said.error);
    assert!(text(&said.error, "message").contains("alone"), "{}", said.error);
}
