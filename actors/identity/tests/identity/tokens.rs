use std::{sync::Arc, time::Duration};

use aesp_identity::{
    AccessToken, Error, Principal, Refusal, TokenOptions, Tokens, ensure_signing_key, retire_signing_key,
    rotate_signing_key,
};
use aesp_proto::{ErrorCode, TokenId};
use serde_json::Value;

use crate::world::{START, World};

async fn issued(world: &World) -> (Arc<Tokens>, Principal, AccessToken) {
    let (principal, _) = world.account(world.acme, "agent").await.unwrap();
    let tokens = Arc::new(world.tokens().await);
    let access = tokens.issue(&principal, None, &world.entropy, world.now()).unwrap();
    (tokens, principal, access)
}

fn refusal(result: Result<impl std::fmt::Debug, Error>) -> Refusal {
    match result.unwrap_err() {
        Error::Token(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

async fn rotate(world: &World) -> TokenId {
    let rotated = world.in_tx(|tx, world| {
        Box::pin(async move { rotate_signing_key(tx, &world.entropy, world.now()).await })
    });
    rotated.await.unwrap()
}

#[tokio::test]
async fn a_token_says_what_was_issued() {
    let world = World::new().await;
    let (tokens, principal, access) = issued(&world).await;
    let claims = tokens.verify(access.reveal(), world.now()).unwrap();
    assert_eq!(claims, access.claims);
    assert_eq!((claims.principal, claims.tenant), (principal.id, world.acme));
    assert_eq!(claims.expires_at, START.plus(Duration::from_secs(300)));
    assert_eq!(access.lifetime(), Duration::from_secs(300));
    assert_eq!(world.snapshot(world.acme).await.check(&claims).unwrap().as_ref(), &principal);
}

#[tokio::test]
async fn time_bounds_hold_for_new_and_for_remembered_tokens() {
    let world = World::new().await;
    let (tokens, _, access) = issued(&world).await;
    let at = |ms: i64| aesp_proto::Timestamp(START.0 + ms);
    for remembered in [false, true] {
        for (ms, expected) in [
            (-86_400_000, Err(Refusal::NotYetValid)),
            (-5_001, Err(Refusal::NotYetValid)),
            (-5_000, Ok(())),
            (0, Ok(())),
            (304_999, Ok(())),
            (305_000, Err(Refusal::Expired)),
            (86_400_000, Err(Refusal::Expired)),
            (i64::MAX - START.0, Err(Refusal::Expired)),
        ] {
            let fresh = if remembered { None } else { Some(world.tokens().await) };
            let tokens = fresh.as_ref().unwrap_or(&tokens);
            if remembered {
                tokens.verify(access.reveal(), START).unwrap();
            }
            let verified = tokens.verify(access.reveal(), at(ms)).map(|_| ());
            assert_eq!(verified.map_err(|e| refusal(Err::<(), _>(e))), expected, "{ms} {remembered}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_jumps_does_not_revive_what_was_revoked() {
    let world = World::new().await;
    let (tokens, principal, access) = issued(&world).await;
    world.clock.advance(Duration::from_secs(3_000));
    world.sweep(world.acme).await;
    let later = tokens.issue(&principal, None, &world.entropy, world.now()).unwrap();
    // The clock of the node that revokes is far behind that of the one that issued.
    world.clock.set(aesp_proto::Timestamp(START.0 - 86_400_000));
    let principal = world.revoke_all(&principal).await.unwrap();
    let snapshot = world.snapshot(world.acme).await;
    for access in [&access, &later] {
        assert_eq!(refusal(snapshot.check(&access.claims)), Refusal::Revoked);
    }
    let fresh = tokens.issue(&principal, None, &world.entropy, world.now()).unwrap();
    assert!(snapshot.check(&fresh.claims).is_ok(), "a login after it counts, in the same second too");
}

#[tokio::test]
async fn one_token_is_revoked_alone() {
    let world = World::new().await;
    let (tokens, principal, access) = issued(&world).await;
    let other = tokens.issue(&principal, None, &world.entropy, world.now()).unwrap();
    world.revoke_access_token(&access.claims).await;
    world.sweep(world.acme).await;
    let snapshot = world.snapshot(world.acme).await;
    let error = snapshot.check(&access.claims).unwrap_err();
    assert_eq!(error.code(), ErrorCode::AuthenticationFailed);
    assert_eq!(refusal(Err::<(), _>(error)), Refusal::Revoked);
    snapshot.check(&other.claims).unwrap();
}

#[tokio::test]
async fn a_revoked_principal_and_another_tenant_are_refused() {
    let world = World::new().await;
    let (_, principal, access) = issued(&world).await;
    let foreign = world.snapshot(world.globex).await;
    assert_eq!(refusal(foreign.check(&access.claims)), Refusal::Tenant);
    world.revoke(world.acme, principal.id).await.unwrap();
    let snapshot = world.snapshot(world.acme).await;
    assert_eq!(refusal(snapshot.check(&access.claims)), Refusal::PrincipalRevoked);
    assert!(snapshot.active(principal.id).is_none());
    assert_eq!(snapshot.by_name("agent").unwrap().id, principal.id);
    assert!(foreign.by_name("agent").is_none() && foreign.by_name(&principal.id.to_string()).is_none());
}

#[tokio::test]
async fn tokens_of_another_issuer_or_audience_are_refused() {
    let world = World::new().await;
    let (_, _, access) = issued(&world).await;
    let issuer = TokenOptions { issuer: "other".into(), ..TokenOptions::default() };
    let audience = TokenOptions { audience: "other".into(), ..TokenOptions::default() };
    for (options, expected) in [(issuer, Refusal::Issuer), (audience, Refusal::Audience)] {
        let tokens = world.tokens_with(options).await;
        assert_eq!(refusal(tokens.verify(access.reveal(), world.now())), expected);
    }
}

#[tokio::test]
async fn the_lifetime_has_an_upper_bound() {
    let world = World::new().await;
    let (principal, _) = world.account(world.acme, "agent").await.unwrap();
    let options = TokenOptions { lifetime: Duration::from_secs(86_400), ..TokenOptions::default() };
    let tokens = world.tokens_with(options).await;
    let access = tokens.issue(&principal, None, &world.entropy, world.now()).unwrap();
    assert_eq!(access.lifetime(), Duration::from_secs(3_600));
}

#[tokio::test]
async fn the_key_before_verifies_until_its_last_token_has_ended() {
    let world = World::new().await;
    let (tokens, principal, old) = issued(&world).await;
    let elsewhere = Arc::new(world.tokens().await);
    rotate(&world).await;
    world.reload(&tokens).await;
    let new = tokens.issue(&principal, None, &world.entropy, world.now()).unwrap();
    tokens.verify(old.reveal(), world.now()).unwrap();
    tokens.verify(new.reveal(), world.now()).unwrap();
    // A node that has not heard of the rotation goes on with the old key until it reloads.
    assert_eq!(refusal(elsewhere.verify(new.reveal(), world.now())), Refusal::UnknownKey);
    let late = elsewhere.issue(&principal, None, &world.entropy, world.now()).unwrap();
    tokens.verify(late.reveal(), world.now()).unwrap();
    world.reload(&elsewhere).await;
    elsewhere.verify(new.reveal(), world.now()).unwrap();

    world.clock.advance(Duration::from_secs(2 * 3_600));
    assert_eq!(refusal(tokens.verify(old.reveal(), world.now())), Refusal::Expired);
    assert_eq!(published(&tokens).len(), 2);
    rotate(&world).await;
    world.reload(&tokens).await;
    assert_eq!(published(&tokens).len(), 2, "the first key has retired");
    assert_eq!(refusal(tokens.verify(old.reveal(), START)), Refusal::UnknownKey);
}

#[tokio::test]
async fn a_leaked_key_ends_with_its_remembered_tokens() {
    let world = World::new().await;
    let (tokens, _, access) = issued(&world).await;
    tokens.verify(access.reveal(), world.now()).unwrap();
    let leaked = world
        .in_tx(|tx, world| Box::pin(async move { ensure_signing_key(tx, &world.entropy, world.now()).await }))
        .await
        .unwrap();
    let retire = || world.in_tx(move |tx, _| Box::pin(retire_signing_key(tx, leaked)));
    assert!(matches!(retire().await, Err(Error::KeyActive)));
    rotate(&world).await;
    retire().await.unwrap();
    world.reload(&tokens).await;
    assert_eq!(refusal(tokens.verify(access.reveal(), world.now())), Refusal::UnknownKey);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_signs_however_many_nodes_start_at_once() {
    let world = World::new().await;
    let racers = (0..8).map(|_| {
        let world = world.clone();
        tokio::spawn(async move { rotate(&world).await })
    });
    futures::future::join_all(racers).await;
    let first = world.in_tx(|tx, world| {
        Box::pin(async move { ensure_signing_key(tx, &world.entropy, world.now()).await })
    });
    let second = world.in_tx(|tx, world| {
        Box::pin(async move { ensure_signing_key(tx, &world.entropy, world.now()).await })
    });
    let active = first.await.unwrap();
    assert_eq!(active, second.await.unwrap());
    let tokens = world.tokens().await;
    let (principal, _) = world.account(world.acme, "agent").await.unwrap();
    let access = tokens.issue(&principal, None, &world.entropy, world.now()).unwrap();
    tokens.verify(access.reveal(), world.now()).unwrap();
    let header = jsonwebtoken::decode_header(access.reveal()).unwrap();
    assert_eq!(header.kid, Some(active.to_string()), "of several active keys another might have signed");
}

fn published(tokens: &Tokens) -> Vec<Value> {
    let set: Value = serde_json::from_str(&tokens.jwks()).unwrap();
    set["keys"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_key_set_is_public_and_verifies_what_is_issued() {
    let world = World::new().await;
    let (tokens, _, access) = issued(&world).await;
    let keys = published(&tokens);
    assert_eq!(keys.len(), 1);
    for (field, expected) in [("kty", "OKP"), ("crv", "Ed25519"), ("alg", "EdDSA"), ("use", "sig")] {
        assert_eq!(keys[0][field], expected);
    }
    assert!(keys[0].get("d").is_none(), "the private half is not published");
    let jwk = serde_json::from_value(keys[0].clone()).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.set_audience(&["aesp"]);
    let data = jsonwebtoken::decode::<Value>(access.reveal(), &key, &validation).unwrap();
    assert_eq!(data.header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(data.header.kid.as_deref(), keys[0]["kid"].as_str());
    assert_eq!(data.claims["sub"], access.claims.principal.to_string());
    assert_eq!(data.claims["tid"], world.acme.to_string());
}

#[tokio::test]
async fn without_a_key_nothing_is_issued() {
    let world = World::new().await;
    let (principal, _) = world.account(world.acme, "agent").await.unwrap();
    let empty = aesp_storage::Store::for_tests();
    let tokens =
        empty.run::<_, Error, _>(|tx| Box::pin(Tokens::load(tx, TokenOptions::default()))).await.unwrap();
    let error = tokens.issue(&principal, None, &world.entropy, world.now()).unwrap_err();
    assert!(matches!(error, Error::NoSigningKey) && error.is_retryable());
    assert_eq!(tokens.jwks(), r#"{"keys":[]}"#);
}
