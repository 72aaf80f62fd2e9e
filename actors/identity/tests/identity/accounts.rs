use aesp_identity::{Error, Page, PrincipalName, Refusal, create_first_administrator, list};
use aesp_proto::{ErrorCode, PrincipalId, TenantId, v1};

use crate::world::{World, name};

#[test]
fn names_follow_the_rule() {
    for good in ["a", "agent-7", "svc.billing_eu", &"a".repeat(63)] {
        assert!(good.parse::<PrincipalName>().is_ok(), "{good}");
    }
    let id = PrincipalId::from_bytes([5; 16]).to_string();
    for bad in ["", "A", "7up", "-a", "a b", "a\n", "ä", "a/b", &"a".repeat(64), &id] {
        assert!(matches!(bad.parse::<PrincipalName>(), Err(Error::InvalidName)), "{bad:?}");
    }
}

#[tokio::test]
async fn an_account_is_found_by_name_and_by_id() {
    let world = World::new().await;
    let (principal, _) = world.account(world.acme, "agent").await.unwrap();
    assert_eq!(principal.kind, v1::PrincipalType::ServiceAccount);
    assert_eq!(world.find(world.acme, "agent").await.unwrap(), principal);
    assert_eq!(world.find(world.acme, &principal.id.to_string()).await.unwrap(), principal);
    for (tenant, text) in [
        (world.globex, "agent".to_owned()),
        (world.globex, principal.id.to_string()),
        (world.acme, "nobody".to_owned()),
        (world.acme, "Not A Name".to_owned()),
    ] {
        assert!(matches!(world.find(tenant, &text).await, Err(Error::NotFound)), "{text}");
    }
}

#[tokio::test]
async fn a_name_is_taken_once_and_for_ever_within_its_tenant() {
    let world = World::new().await;
    let (principal, _) = world.account(world.acme, "agent").await.unwrap();
    assert!(matches!(world.user(world.acme, "agent").await, Err(Error::NameTaken)));
    world.revoke(world.acme, principal.id).await.unwrap();
    assert!(matches!(world.account(world.acme, "agent").await, Err(Error::NameTaken)));
    world.account(world.globex, "agent").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_take_a_name_at_once_one_wins() {
    let world = World::new().await;
    let racers = (0..16).map(|_| {
        let world = world.clone();
        tokio::spawn(async move { world.account(world.acme, "agent").await })
    });
    let outcomes: Vec<_> = futures::future::join_all(racers).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1);
    assert!(outcomes.iter().filter_map(|o| o.as_ref().err()).all(|e| matches!(e, Error::NameTaken)));
    assert_eq!(world.snapshot(world.acme).await.principals().count(), 1);
    world.login(&winners[0].1).await.unwrap();
}

#[tokio::test]
async fn every_change_of_rights_bumps_the_revision() {
    let world = World::new().await;
    let mut last = world.revision(world.acme).await;
    let (principal, key) = world.account(world.acme, "agent").await.unwrap();
    let grant = world.login(&key).await.unwrap();
    let identity = "spiffe://acme/agent";
    for change in ["create", "bind", "unbind", "rotate", "revoke all", "revoke family", "revoke"] {
        match change {
            "bind" => drop(world.bind(&principal, identity).await.unwrap()),
            "unbind" => drop(world.unbind(&principal, identity).await.unwrap()),
            "rotate" => drop(world.rotate_api_key(&principal).await.unwrap()),
            "revoke all" => drop(world.revoke_all(&principal).await.unwrap()),
            "revoke family" => {
                world.revoke_refresh_token(&grant.refresh_token).await.unwrap();
            }
            "revoke" => drop(world.revoke(world.acme, principal.id).await.unwrap()),
            _ => {}
        }
        let revision = world.revision(world.acme).await;
        assert!(revision > last, "{change}");
        last = revision;
    }
    world.revoke(world.acme, principal.id).await.unwrap();
    assert_eq!(world.revision(world.acme).await, last, "revoking again changes nothing");
}

async fn page(
    world: &World,
    kind: Option<v1::PrincipalType>,
    cursor: &str,
    limit: usize,
) -> Result<Page, Error> {
    let (tenant, cursor) = (world.acme, cursor.to_owned());
    world
        .in_tx(move |tx, _| {
            let cursor = cursor.clone();
            Box::pin(async move { list(tx, tenant, kind, &cursor, limit).await })
        })
        .await
}

#[tokio::test]
async fn pages_show_each_principal_once() {
    let world = World::new().await;
    for number in 0..25 {
        if number % 3 == 0 {
            world.user(world.acme, &format!("user-{number}")).await.unwrap();
        } else {
            world.account(world.acme, &format!("agent-{number}")).await.unwrap();
        }
    }
    world.account(world.globex, "other").await.unwrap();
    for (kind, expected) in [
        (None, 25),
        (Some(v1::PrincipalType::User), 9),
        (Some(v1::PrincipalType::ServiceAccount), 16),
        (Some(v1::PrincipalType::SystemAccount), 0),
    ] {
        for limit in [1, 4, 25, 1_000] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = page(&world, kind, &cursor, limit).await.unwrap();
                assert!(page.principals.len() <= limit);
                seen.extend(page.principals.into_iter().map(|p| p.id));
                cursor = page.next_cursor;
                if cursor.is_empty() {
                    break;
                }
            }
            assert_eq!(seen.len(), expected, "{kind:?} {limit}");
            assert!(seen.is_sorted_by(|a, b| a < b));
        }
    }
    assert!(matches!(page(&world, None, "nonsense", 5).await, Err(Error::InvalidCursor)));
}

#[tokio::test]
async fn there_is_one_first_administrator() {
    let world = World::new().await;
    let create = || {
        world.in_tx(|tx, world| {
            Box::pin(async move {
                create_first_administrator(tx, &name("root"), &world.entropy, world.now()).await
            })
        })
    };
    let (administrator, key) = create().await.unwrap();
    assert_eq!((administrator.tenant, administrator.kind), (TenantId::PLATFORM, v1::PrincipalType::User));
    assert_eq!(world.login(&key).await.unwrap().principal, administrator);
    assert!(matches!(create().await, Err(Error::AlreadyInitialised)));
    world.revoke(TenantId::PLATFORM, administrator.id).await.unwrap();
    let again = create().await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::StateConflict, "a revoked administrator does not reopen the door");
}

#[tokio::test]
async fn nothing_is_given_to_a_revoked_principal() {
    let world = World::new().await;
    let (principal, key) = world.account(world.acme, "agent").await.unwrap();
    let grant = world.login(&key).await.unwrap();
    world.revoke(world.acme, principal.id).await.unwrap();
    let refused = world.refresh(&grant.refresh_token).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials(Refusal::PrincipalRevoked)));
    assert!(matches!(world.rotate_api_key(&principal).await, Err(Error::Revoked)));
    assert!(matches!(world.bind(&principal, "spiffe://acme/agent").await, Err(Error::Revoked)));
    assert!(matches!(world.revoke(world.globex, principal.id).await, Err(Error::NotFound)));
}
