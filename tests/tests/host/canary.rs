use std::{fs, path::Path};

use aesp_sdk::{Credentials, v1};
use aesp_tests::{Contract, HOUR, Worker, World};
use serde_json::json;

/// Asserts that no file below `folder` has any of the secrets, in plain bytes.
fn search(folder: &Path, secrets: &[(&str, String)], searched: &mut u64) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, secrets, searched);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        *searched += bytes.len() as u64;
        for (what, secret) in secrets {
            let found = memmem(&bytes, secret.as_bytes());
            assert!(!found, "{what} is in {}", path.display());
        }
    }
}

fn memmem(haystack: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let ends = haystack.len().saturating_sub(needle.len() - 1);
    (0..ends).any(|at| haystack[at] == first && haystack[at..].starts_with(needle))
}

#[tokio::test]
async fn neither_store_nor_logs_have_secrets_or_personal_data() {
    let mut world = World::new().await.unwrap();
    world.acme.offer(Contract::new("lookup")).await.unwrap();
    let runtime = world.runtime().unwrap();
    let runtime = runtime
        .tool("echo", async |_, _| Ok(json!({ "text": "canary-result-5k1" })))
        .tool("lookup", async |_, _| Err(aesp_sdk::ToolFailure::new("canary-failure-8v3")));
    let _worker = Worker::start(runtime).await.unwrap();
    let person = world.acme.account("canary-person-2x9", &["caller"]).await.unwrap();
    let login = v1::AuthenticateServiceAccountRequest { api_key: person.api_key.clone() };
    let tokens = world.administrator.authentication().authenticate_service_account(login).await.unwrap();
    let tokens = tokens.into_inner();
    let client = world.host.client(Credentials::Token(tokens.access_token.as_str().into())).unwrap();
    let session = client.session(HOUR).await.unwrap();
    session.call("echo", json!({ "text": "canary-argument-7q2" })).await.unwrap();
    assert!(session.call("lookup", json!({ "name": "canary-argument-7q2" })).await.unwrap().outcome.is_err());
    assert!(session.call("echo", json!({ "wrong": "canary-argument-7q2" })).await.is_err());
    let request = v1::SetConfigValueRequest {
        tenant_id: world.acme.id().into(),
        key: "notification.webhook_secret".into(),
        value: "canary-webhook-4z6".into(),
        ..Default::default()
    };
    world.administrator.configuration().set_config_value(request).await.unwrap();
    world.host.process().stop().await.unwrap();

    let secrets = [
        ("the administrator's key", world.host.administrator_key().to_owned()),
        ("an account's key", person.api_key.clone()),
        ("an access token", tokens.access_token.clone()),
        ("a refresh token", tokens.refresh_token.clone()),
        ("an account's name", "canary-person-2x9".to_owned()),
        ("an argument", "canary-argument-7q2".to_owned()),
        ("a result", "canary-result-5k1".to_owned()),
        ("a failure", "canary-failure-8v3".to_owned()),
        ("a configured secret", "canary-webhook-4z6".to_owned()),
        ("a tenant's display name", "acme Ltd".to_owned()),
    ];
    let mut searched = 0;
    search(world.host.folder(), &secrets, &mut searched);
    assert!(searched > 10_000, "only {searched} bytes were there to search");
}
