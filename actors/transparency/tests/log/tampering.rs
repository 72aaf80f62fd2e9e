//! Somebody with a hand on the store: whatever is changed after it was sealed is found and named.

use std::time::Duration;

use aesp_audit::{Filter, Query, query};
use aesp_cluster::Fence;
use aesp_follow::Follower;
use aesp_proto::TenantId;
use aesp_storage::Kind;
use aesp_transparency::{Entry, Error, Options, Sealer};

use crate::world::World;

struct Sealed {
    world: World,
    tenant: TenantId,
    fence: Fence,
    sealer: Sealer,
}

/// A log of 300 sealed events in ten commits.
async fn sealed(seed: u64) -> Sealed {
    let world = World::new(seed).await;
    let tenant = world.tenant().await;
    let (sealer, fence) = (world.sealer(Options::default()).await, world.take(1, tenant).await);
    for _ in 0..10 {
        world.record(tenant, 30).await;
        world.seal(&sealer, tenant, fence).await;
        world.clock.advance(Duration::from_secs(30));
    }
    Sealed { world, tenant, fence, sealer }
}

impl Sealed {
    async fn seal_more(&self) -> Result<(), String> {
        self.world.clock.advance(Duration::from_secs(2));
        self.world.record(self.tenant, 1).await;
        let sealed = self.sealer.advance(self.tenant, self.fence).await;
        sealed.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn alerts(&self) -> usize {
        let filter = Filter { actions: vec!["log.damaged".into()], ..Filter::default() };
        let platform = Query { filter, ..Query::new(TenantId::PLATFORM) };
        query(&self.world.store, &platform).await.unwrap().events.len()
    }
}

#[tokio::test]
async fn a_changed_event_is_named() {
    let sealed = sealed(1).await;
    let (world, log) = (&sealed.world, sealed.world.log(sealed.tenant));
    let (key, mut leaf) = world.rows(sealed.tenant, Kind::AUDIT_EVENT).await.swap_remove(123);
    let last = leaf.len() - 1;
    leaf[last] ^= 1;
    world.overwrite(key, Some(leaf)).await;
    let damaged = log.inclusion(Entry::Leaf(123), 0).await.unwrap_err();
    assert!(matches!(&damaged, Error::Damaged(what) if what.contains("leaf 123 ")), "{damaged}");
    let bundle = aesp_merkle::Coordinates::parse("tile/entries/000").unwrap();
    let damaged = log.resource(bundle).await.unwrap_err();
    assert!(matches!(&damaged, Error::Damaged(what) if what.contains("leaf 123 ")), "{damaged}");
    log.inclusion(Entry::Leaf(122), 0).await.unwrap();
    let broken = world.verify(&world.export(sealed.tenant).await).await.unwrap_err();
    assert!(
        broken.contains("not the events that the node signed (numbers 121 to 150)")
            || broken.contains("event"),
        "{broken}"
    );
}

#[tokio::test]
async fn a_changed_tile_is_found_before_anything_is_signed_over_it() {
    let sealed = sealed(2).await;
    let (world, log) = (&sealed.world, sealed.world.log(sealed.tenant));
    let before = log.checkpoint().await.unwrap();
    let tiles = world.rows(sealed.tenant, Kind::LOG_TILE).await;
    // The partial tile of level 0: 44 hashes.
    let (key, tile) = tiles.iter().find(|(_, tile)| tile.len() == 44 * 32).unwrap().clone();
    let mut changed = tile.clone();
    changed[40] ^= 1;
    world.overwrite(key.clone(), Some(changed)).await;
    let refused = sealed.seal_more().await.unwrap_err();
    assert!(refused.contains("do not lead to the root signed for size 300"), "{refused}");
    assert_eq!(log.checkpoint().await.unwrap(), before);
    assert!(matches!(log.inclusion(Entry::Leaf(299), 0).await, Err(Error::Damaged(_))));
    assert!(matches!(log.consistency(270, 0).await, Err(Error::Damaged(_))));
    drop(sealed.seal_more().await);
    assert_eq!(sealed.alerts().await, 1, "it is on record, once");
    // Cut, it is found as well; put back, the log goes on.
    world.overwrite(key.clone(), Some(tile[..32].to_vec())).await;
    assert!(sealed.seal_more().await.unwrap_err().contains("missing or cut"));
    world.overwrite(key, Some(tile)).await;
    sealed.seal_more().await.unwrap();
    assert_eq!(world.head(sealed.tenant).await.unwrap().size, 304);
    assert_eq!(world.verify(&world.export(sealed.tenant).await).await.unwrap().unsealed(), 0);
}

#[tokio::test]
async fn a_checkpoint_that_no_log_key_signed_is_not_built_on() {
    let sealed = sealed(3).await;
    let (world, log) = (&sealed.world, sealed.world.log(sealed.tenant));
    let (key, state) = world.rows(sealed.tenant, Kind::LOG_STATE).await.remove(0);
    let text = String::from_utf8(state.clone()).unwrap();
    let forged = text.replace("\\n300\\n", "\\n299\\n");
    assert_ne!(forged, text);
    world.overwrite(key.clone(), Some(forged.into_bytes())).await;
    assert!(matches!(log.checkpoint().await, Err(Error::Damaged(_))));
    assert!(sealed.seal_more().await.unwrap_err().contains("not signed by a log key"));
    world.overwrite(key, Some(state)).await;
    sealed.seal_more().await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_of_an_export_that_was_changed_is_named() {
    let sealed = sealed(4).await;
    let export = String::from_utf8(sealed.world.export(sealed.tenant).await).unwrap();
    let forged = export.replacen("\\n300\\n", "\\n290\\n", 1);
    assert_ne!(forged, export);
    let broken = sealed.world.verify(forged.as_bytes()).await.unwrap_err();
    assert!(broken.contains("the checkpoint is not believed"), "{broken}");
}

/// The chains alone could not tell: the whole end of the log is gone, as if it had never been.
#[tokio::test]
async fn an_end_that_was_cut_off_after_it_was_sealed_is_found() {
    let sealed = sealed(5).await;
    let world = &sealed.world;
    let events = world.rows(sealed.tenant, Kind::AUDIT_EVENT).await;
    let batches = world.rows(sealed.tenant, Kind::AUDIT_BATCH).await;
    for (key, _) in events[270..].iter().chain(&batches[9..]) {
        world.overwrite(key.clone(), None).await;
    }
    let broken = world.verify(&world.export(sealed.tenant).await).await.unwrap_err();
    assert!(broken.contains("the checkpoint is of 300 events and comes after 270"), "{broken}");
    assert!(matches!(world.log(sealed.tenant).inclusion(Entry::Leaf(280), 0).await, Err(Error::Damaged(_))));
}

/// What the node's own key can do: write another history of what was sealed. The log key's checkpoint shows it.
#[tokio::test]
async fn a_history_written_anew_with_the_keys_of_the_batches_does_not_fit_the_checkpoints() {
    let sealed = sealed(6).await;
    let world = &sealed.world;
    for kind in [Kind::AUDIT_EVENT, Kind::AUDIT_BATCH] {
        for (key, _) in world.rows(sealed.tenant, kind).await {
            world.overwrite(key, None).await;
        }
    }
    let clock = std::sync::Arc::clone(&world.clock);
    let (recorder, _duty) = aesp_audit::Recorder::start(
        world.store.clone(),
        clock,
        world.entropy.clone(),
        aesp_audit::Options::default(),
    )
    .await
    .unwrap();
    for _ in 0..10 {
        let kind = aesp_proto::v1::EventType::SystemEvent;
        let event = || {
            aesp_audit::Event::new(&world.entropy, sealed.tenant, kind, "y", aesp_proto::v1::Outcome::Success)
        };
        recorder.append((0..30).map(|_| event()).collect()).await.unwrap();
    }
    let broken = world.verify(&world.export(sealed.tenant).await).await.unwrap_err();
    assert!(
        broken.contains("the events are not those that were sealed: one of the leaves 0 to "),
        "{broken}"
    );
}
