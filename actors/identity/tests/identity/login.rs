use std::{sync::Arc, time::Duration};

use aesp_identity::{ApiKey, Error, Refresh, RefreshToken, Refusal, Secret};
use aesp_proto::{ErrorCode, TenantId, TokenId};
use aesp_storage::{FileKeyProvider, MemoryOptions, Store};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};

use crate::world::{World, granted, lifetime};

#[tokio::test]
async fn every_failed_login_looks_the_same() {
    let world = World::new().await;
    let (_, key) = world.account(world.acme, "agent").await.unwrap();
    let (gone, gone_key) = world.account(world.acme, "gone").await.unwrap();
    world.revoke(world.acme, gone.id).await.unwrap();
    let secret = || Secret::generate().unwrap();
    let other_secret = Secret::from_bytes(*key.secret().expose());
    let attempts = [
        ("unknown tenant", ApiKey::new(TenantId::random(&world.entropy), key.id(), secret())),
        ("unknown key", ApiKey::new(world.acme, TokenId::random(&world.entropy), secret())),
        ("wrong secret", ApiKey::new(world.acme, key.id(), secret())),
        ("another tenant", ApiKey::new(world.globex, key.id(), other_secret)),
        ("revoked", gone_key),
    ];
    let mut heard = Vec::new();
    for (what, attempt) in attempts {
        let refused = world.login(&attempt).await.expect_err(what);
        assert_eq!(refused.code(), ErrorCode::InvalidCredentials, "{what}");
        let error = aesp_proto::Error::from(refused);
        heard.push((
            error.code(),
            error.message().to_owned(),
            error.remediation().map(str::to_owned),
            error.retry_delay(),
        ));
    }
    heard.dedup();
    assert_eq!(heard.len(), 1, "{heard:?}");
    world.login(&key).await.unwrap();
}

#[tokio::test]
async fn a_typing_error_is_told_from_a_wrong_key() {
    let text = "aesp_".to_owned() + &"0".repeat(109);
    let error = aesp_proto::Error::from(Error::from(text.parse::<ApiKey>().unwrap_err()));
    assert_eq!(error.code(), ErrorCode::InvalidRequest);
    assert!(error.message().contains("typing error"));
}

#[tokio::test]
async fn rotating_a_key_ends_the_old_one_and_what_it_gained() {
    let world = World::new().await;
    let (principal, old) = world.account(world.acme, "agent").await.unwrap();
    let tokens = world.tokens().await;
    let grant = world.login(&old).await.unwrap();
    let access = tokens.issue(&grant.principal, Some(grant.family), &world.entropy, world.now()).unwrap();
    let (_, new) = world.rotate_api_key(&principal).await.unwrap();
    assert!(world.login(&old).await.is_err());
    assert!(world.refresh(&grant.refresh_token).await.is_err());
    let snapshot = world.snapshot(world.acme).await;
    assert!(matches!(snapshot.check(&access.claims), Err(Error::Token(Refusal::Revoked))));
    let grant = world.login(&new).await.unwrap();
    let access = tokens.issue(&grant.principal, Some(grant.family), &world.entropy, world.now()).unwrap();
    assert_eq!(snapshot.check(&access.claims).unwrap().id, principal.id);
}

#[tokio::test]
async fn a_reused_refresh_token_ends_its_family_and_is_reported() {
    let world = World::new().await;
    let (principal, key) = world.account(world.acme, "agent").await.unwrap();
    let tokens = world.tokens().await;
    let bystander = world.login(&key).await.unwrap();
    let first = world.login(&key).await.unwrap();
    let access = tokens.issue(&principal, Some(first.family), &world.entropy, world.now()).unwrap();
    let second = granted(world.refresh(&first.refresh_token).await.unwrap());
    let third = granted(world.refresh(&second.refresh_token).await.unwrap());

    let Refresh::Reused(reuse) = world.refresh(&first.refresh_token).await.unwrap() else {
        panic!("the first token was good twice");
    };
    assert_eq!((reuse.tenant, reuse.principal, reuse.family), (world.acme, principal.id, first.family));
    assert_eq!(reuse.refusal().code(), ErrorCode::InvalidCredentials);
    let refused = world.refresh(&third.refresh_token).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials(Refusal::Revoked)), "the owner's token ended too");
    let snapshot = world.snapshot(world.acme).await;
    assert!(matches!(snapshot.check(&access.claims), Err(Error::Token(Refusal::Revoked))));
    granted(world.refresh(&bystander.refresh_token).await.unwrap());
}

#[tokio::test]
async fn knowing_the_id_of_a_family_does_not_end_it() {
    let world = World::new().await;
    let (_, key) = world.account(world.acme, "agent").await.unwrap();
    let grant = world.login(&key).await.unwrap();
    let forged = RefreshToken::new(world.acme, grant.family, Secret::generate().unwrap());
    let refused = world.refresh(&forged).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials(Refusal::WrongSecret)));
    assert!(world.revoke_refresh_token(&forged).await.is_err());
    granted(world.refresh(&grant.refresh_token).await.unwrap());
}

#[tokio::test]
async fn refresh_tokens_end_when_idle_and_when_old() {
    let world = World::new().await;
    let (_, key) = world.account(world.acme, "agent").await.unwrap();
    let idle = world.login(&key).await.unwrap();
    world.clock.advance(lifetime().idle);
    let refused = world.refresh(&idle.refresh_token).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials(Refusal::Expired)));

    let mut grant = world.login(&key).await.unwrap();
    let ends_at = world.now().plus(lifetime().total);
    let step = lifetime().idle - Duration::from_millis(1);
    while world.now().plus(step) < ends_at {
        world.clock.advance(step);
        grant = granted(world.refresh(&grant.refresh_token).await.unwrap());
    }
    assert_eq!(grant.refresh_expires_at, ends_at);
    world.clock.set(ends_at);
    assert!(world.refresh(&grant.refresh_token).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_that_refresh_at_once_one_wins_and_the_family_ends() {
    let world = World::new().await;
    let (_, key) = world.account(world.acme, "agent").await.unwrap();
    let grant = world.login(&key).await.unwrap();
    let racers = (0..2).map(|_| {
        let (world, token) = (world.clone(), grant.refresh_token.clone());
        tokio::spawn(async move { world.refresh(&token).await })
    });
    let outcomes: Vec<_> =
        futures::future::join_all(racers).await.into_iter().map(|o| o.unwrap().unwrap()).collect();
    assert_eq!(outcomes.iter().filter(|o| matches!(o, Refresh::Granted(_))).count(), 1);
    assert_eq!(outcomes.iter().filter(|o| matches!(o, Refresh::Reused(_))).count(), 1);
}

#[tokio::test]
async fn no_secret_and_no_name_is_in_the_store_or_shown() {
    let world = World::new().await;
    let (principal, key) = world.account(world.acme, "canary-account").await.unwrap();
    world.bind(&principal, "spiffe://canary/identity").await.unwrap();
    let grant = world.login(&key).await.unwrap();
    let grant = granted(world.refresh(&grant.refresh_token).await.unwrap());
    let tokens = world.tokens().await;
    let access = tokens.issue(&principal, Some(grant.family), &world.entropy, world.now()).unwrap();
    world.revoke_access_token(&access.claims).await;

    let dump = world.dump().await;
    assert!(dump.windows(16).any(|w| w == world.acme.as_bytes()), "the dump is of this store");
    let shown = format!("{key:?} {grant:?} {access:?} {tokens:?} {principal:?}");
    let refresh = &grant.refresh_token;
    for secret in [key.secret().expose(), refresh.secret().expose()] {
        for half in [&secret[..16], &secret[16..]] {
            assert!(!contains(&dump, half));
        }
        for text in [HEXLOWER.encode(secret), BASE64.encode(secret), BASE64URL_NOPAD.encode(secret)] {
            assert!(!contains(&dump, text.as_bytes()) && !shown.contains(&text));
        }
    }
    for text in [&key.reveal()[60..], &refresh.reveal()[60..], access.reveal()] {
        assert!(!contains(&dump, text.as_bytes()) && !shown.contains(text));
    }
    for personal in ["canary-account", "spiffe://canary", "service_account", "fingerprint"] {
        assert!(!contains(&dump, personal.as_bytes()), "{personal}");
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn what_has_ended_is_swept_and_what_has_not_stays() {
    let world = World::new().await;
    let (principal, key) = world.account(world.acme, "agent").await.unwrap();
    let tokens = world.tokens().await;
    let old = world.login(&key).await.unwrap();
    let access = tokens.issue(&principal, Some(old.family), &world.entropy, world.now()).unwrap();
    world.revoke_access_token(&access.claims).await;
    let before = world.count(world.acme).await;
    world.sweep(world.acme).await;
    assert_eq!(world.count(world.acme).await, before, "nothing has ended yet");
    assert!(world.snapshot(world.acme).await.check(&access.claims).is_err());

    world.clock.advance(Duration::from_secs(2 * 3600));
    let new = world.login(&key).await.unwrap();
    world.sweep(world.acme).await;
    assert_eq!(world.count(world.acme).await, before - 1, "two rows less, the new family more");
    let refused = world.refresh(&old.refresh_token).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials(Refusal::Unknown)));
    granted(world.refresh(&new.refresh_token).await.unwrap());
    assert!(
        world.snapshot(world.acme).await.check(&access.claims).is_ok(),
        "only its own end refuses it now"
    );
    assert!(matches!(tokens.verify(access.reveal(), world.now()), Err(Error::Token(Refusal::Expired))));
}

#[tokio::test]
async fn conflicts_and_unknown_commits_are_not_taken_for_reuse() {
    let folder = tempfile::tempdir().unwrap();
    let provider = FileKeyProvider::create(&folder.path().join("master.key")).unwrap();
    let store = Store::memory(MemoryOptions::fdb_like(), Arc::new(provider));
    store.initialise().await.unwrap();
    let world = World::on(store).await;
    let (_, key) = world.account(world.acme, "agent").await.unwrap();
    let mut grant = world.login(&key).await.unwrap();
    for _ in 0..200 {
        grant = granted(world.refresh(&grant.refresh_token).await.unwrap());
    }
    assert_eq!(world.snapshot(world.acme).await.principals().count(), 1);
}
