use aesp_identity::{CertificateIdentity, Error, Refusal, certificate_principal};
use aesp_proto::{PrincipalId, TenantId};

use crate::world::World;

const IDENTITY: &str = "spiffe://example.org/agent";

async fn bound_to(world: &World) -> Option<(TenantId, PrincipalId)> {
    world.in_tx(|tx, _| Box::pin(async move { certificate_principal(tx, IDENTITY).await })).await.unwrap()
}

#[test]
fn identities_follow_the_rule() {
    for bad in ["", "a\0b", "line\nbreak", &"a".repeat(513)] {
        assert!(matches!(bad.parse::<CertificateIdentity>(), Err(Error::InvalidIdentity)), "{bad:?}");
    }
}

#[tokio::test]
async fn a_certificate_acts_as_the_one_it_is_bound_to() {
    let world = World::new().await;
    let user = world.user(world.acme, "user").await.unwrap();
    let refused = world.login_certificate(IDENTITY).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials(Refusal::CertificateUnbound)));
    world.bind(&user, IDENTITY).await.unwrap();
    assert_eq!(world.login_certificate(IDENTITY).await.unwrap().principal.id, user.id);
    assert_eq!(bound_to(&world).await, Some((world.acme, user.id)));
    let again = world.bind(&user, IDENTITY).await.unwrap();
    assert_eq!(again.certificate_identities.len(), 1, "binding again changes nothing");
}

#[tokio::test]
async fn an_identity_belongs_to_one_principal_of_all_tenants() {
    let world = World::new().await;
    let first = world.user(world.acme, "first").await.unwrap();
    world.bind(&first, IDENTITY).await.unwrap();
    for tenant in [world.acme, world.globex] {
        let second = world.user(tenant, "second").await.unwrap();
        assert!(matches!(world.bind(&second, IDENTITY).await, Err(Error::IdentityTaken)));
        assert!(matches!(world.unbind(&second, IDENTITY).await, Err(Error::NotFound)));
    }
    assert_eq!(bound_to(&world).await, Some((world.acme, first.id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_bind_an_identity_at_once_one_wins() {
    let world = World::new().await;
    let mut racers = Vec::new();
    for number in 0..8 {
        let tenant = if number % 2 == 0 { world.acme } else { world.globex };
        let user = world.user(tenant, &format!("user-{number}")).await.unwrap();
        let world = world.clone();
        racers.push(tokio::spawn(async move { world.bind(&user, IDENTITY).await }));
    }
    let outcomes: Vec<_> = futures::future::join_all(racers).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = outcomes.into_iter().filter_map(Result::ok).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(bound_to(&world).await, Some((winners[0].tenant, winners[0].id)));
}

#[tokio::test]
async fn unbinding_ends_the_certificate_and_its_tokens_at_once() {
    let world = World::new().await;
    let user = world.user(world.acme, "user").await.unwrap();
    world.bind(&user, IDENTITY).await.unwrap();
    let tokens = world.tokens().await;
    let grant = world.login_certificate(IDENTITY).await.unwrap();
    let access = tokens.issue(&grant.principal, Some(grant.family), &world.entropy, world.now()).unwrap();
    let before = world.snapshot(world.acme).await;
    before.check_certificate(user.id, IDENTITY).unwrap();

    world.unbind(&user, IDENTITY).await.unwrap();
    let after = world.snapshot(world.acme).await;
    assert!(matches!(
        after.check_certificate(user.id, IDENTITY),
        Err(Error::Credentials(Refusal::CertificateUnbound))
    ));
    assert!(matches!(after.check(&access.claims), Err(Error::Token(Refusal::Revoked))));
    assert!(world.login_certificate(IDENTITY).await.is_err());
    assert!(world.refresh(&grant.refresh_token).await.is_err());
    let other = world.user(world.globex, "other").await.unwrap();
    world.bind(&other, IDENTITY).await.unwrap();
}

#[tokio::test]
async fn a_revoked_principal_gives_its_identities_back() {
    let world = World::new().await;
    let user = world.user(world.acme, "user").await.unwrap();
    world.bind(&user, IDENTITY).await.unwrap();
    world.revoke(world.acme, user.id).await.unwrap();
    assert!(world.login_certificate(IDENTITY).await.is_err());
    assert_eq!(bound_to(&world).await, None);
}

#[tokio::test]
async fn an_erased_tenant_does_not_keep_an_identity() {
    let world = World::new().await;
    let user = world.user(world.acme, "user").await.unwrap();
    world.bind(&user, IDENTITY).await.unwrap();
    let acme = world.acme;
    world.in_tx(move |tx, _| Box::pin(async move { Ok(tx.destroy_tenant_keys(acme).await?) })).await.unwrap();
    let refused = world.login_certificate(IDENTITY).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials(_)), "{refused:?}");
    let other = world.user(world.globex, "other").await.unwrap();
    world.bind(&other, IDENTITY).await.unwrap();
    assert_eq!(world.login_certificate(IDENTITY).await.unwrap().principal.id, other.id);
}

#[tokio::test]
async fn a_principal_has_at_most_sixteen_identities() {
    let world = World::new().await;
    let user = world.user(world.acme, "user").await.unwrap();
    for number in 0..16 {
        world.bind(&user, &format!("spiffe://acme/{number}")).await.unwrap();
    }
    assert!(matches!(world.bind(&user, IDENTITY).await, Err(Error::TooManyIdentities)));
}
