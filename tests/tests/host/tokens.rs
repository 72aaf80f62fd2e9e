//! Tokens that are right in everything but one thing, signed with the node's own key where that is not the thing.

use std::{sync::Arc, time::Duration};

use aesp_identity::{Principal, TokenOptions, Tokens};
use aesp_proto::{Clock, Entropy, SystemClock, TenantId, Timestamp};
use aesp_sdk::{Credentials, Error, ErrorCode, Session};
use aesp_storage::{FileKeyProvider, LmdbOptions, MemoryOptions, Store};
use aesp_tests::{HOUR, World, platform};
use serde_json::json;

use crate::support::refused;

const REFUSALS: [ErrorCode; 2] = [ErrorCode::AuthenticationFailed, ErrorCode::InvalidCredentials];

/// What the node of `aesp init` says in its tokens.
fn options() -> TokenOptions {
    TokenOptions {
        issuer: "https://localhost:8443".into(),
        audience: "aesp".into(),
        lifetime: Duration::from_secs(600),
        ..TokenOptions::default()
    }
}

/// Opens the running node's store beside it.
async fn store_of(world: &World) -> Store {
    let data = world.host.folder().join("data");
    let key = Arc::new(FileKeyProvider::open(&data.join("master.key")).unwrap());
    let store = Store::lmdb(&data.join("store"), LmdbOptions::default(), key).await.unwrap();
    store.initialise().await.unwrap();
    store
}

async fn principal_of(store: &Store, tenant_id: &str, name: &'static str) -> Principal {
    let tenant: TenantId = tenant_id.parse().unwrap();
    store.run(move |tx| Box::pin(aesp_identity::find(tx, tenant, name))).await.unwrap()
}

async fn signer(store: &Store, options: TokenOptions) -> Tokens {
    let loaded = store.run(move |tx| {
        let options = options.clone();
        Box::pin(async move { Tokens::load(tx, options).await })
    });
    loaded.await.unwrap()
}

/// Signing keys that the node never heard of.
async fn strange_signer(folder: &std::path::Path) -> Tokens {
    let key = Arc::new(FileKeyProvider::create(&folder.join("strange.key")).unwrap());
    let store = Store::memory(MemoryOptions::default(), key);
    store.initialise().await.unwrap();
    let made = store.run(|tx| {
        Box::pin(async move {
            aesp_identity::ensure_signing_key(tx, &Entropy::from_system(), SystemClock.now()).await
        })
    });
    made.await.unwrap();
    signer(&store, options()).await
}

fn sign(tokens: &Tokens, principal: &Principal, at: Timestamp) -> String {
    tokens.issue(principal, None, &Entropy::from_system(), at).unwrap().reveal().to_owned()
}

async fn opens(world: &World, token: &str) -> Result<Session, Error> {
    world.host.client(Credentials::Token(token.into())).unwrap().session(HOUR).await
}

#[tokio::test]
async fn a_token_opens_nothing_outside_of_its_time_its_tenant_and_its_key() {
    let world = World::new().await.unwrap();
    let globex = platform::create_tenant(&world.administrator, "globex").await.unwrap();
    let store = store_of(&world).await;
    let agent = principal_of(&store, world.acme.id(), "assistant").await;
    let (own, now) = (signer(&store, options()).await, SystemClock.now());
    opens(&world, &sign(&own, &agent, now)).await.expect("the test's tokens are like the node's");

    let ago = |seconds: i64| Timestamp(now.0 - seconds * 1_000);
    let elsewhere = Principal { tenant: globex.id().parse().unwrap(), ..agent.clone() };
    let other_issuer = signer(&store, TokenOptions { issuer: "https://evil".into(), ..options() }).await;
    let other_audience = signer(&store, TokenOptions { audience: "others".into(), ..options() }).await;
    let strange = strange_signer(world.host.folder()).await;
    let forged = [
        ("expired a minute ago", sign(&own, &agent, ago(660))),
        ("expired a year ago", sign(&own, &agent, ago(365 * 86_400))),
        ("not yet valid", sign(&own, &agent, ago(-3_600))),
        ("of another tenant", sign(&own, &elsewhere, now)),
        ("of another issuer", sign(&other_issuer, &agent, now)),
        ("for another audience", sign(&other_audience, &agent, now)),
        ("of an unknown key", sign(&strange, &agent, now)),
    ];
    for (what, token) in forged {
        let outcome = opens(&world, &token).await.map(|session| session.id().to_owned());
        assert!(outcome.is_err(), "{what}: it was let through");
        let error = refused(outcome, &REFUSALS);
        assert!(error.remediation().is_some(), "{what}: it says no next step");
    }
}

#[tokio::test]
async fn a_token_of_one_tenant_does_nothing_in_a_session_of_another() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let theirs = world.session().await.unwrap();
    let globex = platform::create_tenant(&world.administrator, "globex").await.unwrap();
    globex.role("caller", &["*"]).await.unwrap();
    globex.account("visitor", &["caller"]).await.unwrap();
    let store = store_of(&world).await;
    let visitor = principal_of(&store, globex.id(), "visitor").await;
    let token = sign(&signer(&store, options()).await, &visitor, SystemClock.now());
    let client = world.host.client(Credentials::Token(token.as_str().into())).unwrap();
    let call = aesp_sdk::v1::FunctionCall {
        name: "echo".into(),
        args_json: json!({ "text": "x" }).to_string().into_bytes().into(),
        ..Default::default()
    };
    let request = aesp_sdk::v1::InvokeRequest {
        session_id: theirs.id().into(),
        invocation_id: "stolen".into(),
        call: Some(call),
        ..Default::default()
    };
    let answer = client.agent().invoke(request).await.map_err(|status| Error::from_status(&status));
    refused(answer, &[ErrorCode::SessionInvalid]);
}
