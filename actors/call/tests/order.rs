//! Loads that overtake each other: what is loaded late, or was loaded before a change, is never what decides.

mod harness;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aesp_call::Views;
use aesp_identity::{TokenOptions, Tokens, rotate_signing_key};
use aesp_proto::{Entropy, TenantId, Timestamp};
use aesp_runtime::Registration;
use aesp_storage::{Store, Transaction};
use aesp_tenant::{NewTenant, Quotas};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use self::harness::{TENANT, staged::Staged};

const NOW: Timestamp = Timestamp(1_000_000);
const IDENTITY: &str = "spiffe://test/runtime/late";
/// Long enough for a load that nothing holds.
const OVERTAKES: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(20);

/// A store with a platform and a tenant: one node's staged way to it, and another's.
async fn stores() -> (TempDir, Staged, Store, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let (staged, store, other) = Staged::store(&folder);
    other.initialise().await.expect("an empty store");
    let made = other.run(|tx| {
        Box::pin(async move {
            aesp_tenant::create_platform(tx, NOW).await?;
            aesp_identity::ensure_signing_key(tx, &Entropy::from_seed(1), NOW).await?;
            let (name, display_name) = ("acme".into(), String::new());
            let quotas = Quotas::default();
            let new = NewTenant { id: TENANT, name, display_name, quotas, metadata: BTreeMap::new() };
            aesp_tenant::create(tx, new, NOW).await?;
            Ok::<_, aesp_proto::Error>(())
        })
    });
    made.await.expect("is made");
    (folder, staged, store, other)
}

/// Lets a load that began later overtake the one that is held, if it can; then lets both end.
async fn overtake<T>(staged: &Staged, first: JoinHandle<T>, mut second: JoinHandle<T>) {
    let overtook = timeout(OVERTAKES, &mut second).await.is_ok();
    staged.snapshots.release();
    timeout(SOON, first).await.expect("the first load ends").expect("does not panic");
    if !overtook {
        timeout(SOON, second).await.expect("the second load ends").expect("does not panic");
    }
}

#[tokio::test]
async fn a_view_that_was_loaded_before_a_change_and_found_after_it_is_not_used() {
    let (_folder, staged, store, other) = stores().await;
    let views = Views::start(store).await.expect("an empty platform");
    staged.snapshots.hold_next();
    let loading = {
        let views = views.clone();
        tokio::spawn(async move { views.get(TENANT).await })
    };
    timeout(SOON, staged.snapshots.holds_one()).await.expect("the view is loaded");
    // Nobody follows the tenant yet, so nobody hears of this.
    let changed = other.run(|tx| Box::pin(async move { tx.bump_revision(TENANT).await }));
    changed.await.map_err(|error: aesp_storage::Error| error).expect("is changed");
    assert!(views.peek(TENANT).is_none(), "a view is there before it was found current");
    staged.snapshots.release();
    let view = timeout(SOON, loading).await.expect("is loaded").expect("does not panic").expect("is there");
    let revision = other.run(|tx| Box::pin(async move { tx.revision(TENANT).await }));
    let revision = revision.await.map_err(|error: aesp_storage::Error| error).expect("is there");
    assert_eq!(view.revision, revision, "the view is from before the change");
}

#[tokio::test]
async fn registrations_that_were_loaded_earlier_never_replace_newer_ones() {
    let (_folder, staged, store, other) = stores().await;
    let views = Views::start(store).await.expect("an empty platform");
    let refresh = || {
        let views = views.clone();
        tokio::spawn(async move { views.refresh(TenantId::PLATFORM).await.expect("the store answers") })
    };
    staged.snapshots.hold_next();
    let first = refresh();
    timeout(SOON, staged.snapshots.holds_one()).await.expect("the registrations are loaded");
    let registered = other.run(|tx| Box::pin(register(tx)));
    registered.await.expect("is registered");
    overtake(&staged, first, refresh()).await;
    assert!(views.registrations().knows_identity(IDENTITY), "an older load has replaced a newer one");
}

async fn register(tx: &Transaction) -> Result<(), aesp_runtime::Error> {
    let registration = Registration {
        runtime_id: "late".into(),
        certificate_identity: IDENTITY.into(),
        tenants: vec![TENANT],
        contracts: vec!["*".into()],
        zones: Vec::new(),
        created_at: NOW,
        revoked: false,
    };
    aesp_runtime::register(tx, registration).await.map(|_| ())
}

#[tokio::test]
async fn signing_keys_that_were_loaded_earlier_never_replace_newer_ones() {
    let (_folder, staged, store, other) = stores().await;
    let loaded = store.run(|tx| Box::pin(Tokens::load(tx, TokenOptions::default())));
    let tokens = Arc::new(loaded.await.expect("there is a key"));
    let reload = || {
        let (store, tokens) = (store.clone(), Arc::clone(&tokens));
        tokio::spawn(async move {
            let reloaded = store.run(move |tx| {
                let tokens = Arc::clone(&tokens);
                Box::pin(async move { tokens.reload(tx).await })
            });
            reloaded.await.expect("the store answers");
        })
    };
    staged.snapshots.hold_next();
    let first = reload();
    timeout(SOON, staged.snapshots.holds_one()).await.expect("the keys are loaded");
    let rotated =
        other.run(|tx| Box::pin(async move { rotate_signing_key(tx, &Entropy::from_seed(2), NOW).await }));
    let newest = rotated.await.expect("is rotated").to_string();
    overtake(&staged, first, reload()).await;
    assert!(tokens.jwks().contains(&newest), "an older load has replaced a newer one: {}", tokens.jwks());
}
