//! The log as its readers meet it: checkpoints, proofs, exports; on memory and on lmdb.

use std::{sync::Arc, time::Duration};

use aesp_audit::{Against, Origin, Report, Trust, open_origins, verify_with};
use aesp_follow::{Advance, Follower};
use aesp_merkle::{Coordinates, Tree, leaf_hash, proof::is_consistent, root_of_path};
use aesp_proto::{EventId, v1::AuditLeaf};
use aesp_storage::{FileKeyProvider, LmdbOptions, Store};
use aesp_transparency::{Entry, Error, LogKeys, Options};
use prost::Message;

use crate::world::World;

const SMALL: Options =
    Options { pace: Duration::from_secs(1), events: 50, bytes: 1_000_000, keep_each: Duration::ZERO };

/// Seals a log of several tiles in many steps and checks every proof that it gives.
async fn every_event_is_proven(world: &World) {
    let tenant = world.tenant().await;
    let (sealer, fence) = (world.sealer(SMALL).await, world.take(1, tenant).await);
    for (round, events) in [1, 3, 40, 200, 7, 1, 90, 260].into_iter().enumerate() {
        world.record(tenant, events).await;
        if round != 2 {
            world.seal(&sealer, tenant, fence).await;
        }
    }
    let leaves = world.leaves(tenant).await;
    let (size, log) = (leaves.len() as u64, world.log(tenant));
    let head = world.head(tenant).await.unwrap();
    assert_eq!((head.size, head.root), (size, Tree::new(leaves.clone()).root()));
    assert!(world.checkpoints_are_right(tenant).await > 10);
    for index in (0..size).step_by(13).chain([255, 256, size - 1]) {
        let proof = log.inclusion(Entry::Leaf(index), 0).await.unwrap();
        assert_eq!(root_of_path(leaf_hash(&proof.leaf), index, size, &proof.path), Some(head.root));
        let id = EventId::from_slice(&AuditLeaf::decode(proof.leaf.clone()).unwrap().event_id).unwrap();
        assert_eq!(log.inclusion(Entry::Event(id), 0).await.unwrap(), proof);
        let early = log.inclusion(Entry::Leaf(index), index + 1).await.unwrap();
        assert_eq!(early.root, Tree::new(leaves[..=index as usize].to_vec()).root());
        assert_eq!(early.checkpoint.is_some(), index + 1 == size);
    }
    for from in [1, 2, 44, 255, 256, 257, 511, size] {
        let proof = log.consistency(from, 0).await.unwrap();
        let old = Tree::new(leaves[..from as usize].to_vec()).root();
        assert_eq!((proof.from, proof.to), ((from, old), (size, head.root)));
        assert!(is_consistent((from, &old), (size, &head.root), &proof.proof));
    }
    // The tiles and the bundles of entries hold the same, whole and partial.
    let mut read = Vec::new();
    for (index, width) in [(0, 256), (1, 256), (2, size as usize % 256)] {
        let path = Coordinates { level: 0, index }.path(width);
        let tile = log.resource(Coordinates::parse(&path).unwrap()).await.unwrap();
        assert_eq!(tile.len(), 32 * width);
        let mut entries =
            log.resource(Coordinates::parse(&path.replace("/0/", "/entries/")).unwrap()).await.unwrap();
        while let Some((length, rest)) = entries.split_first_chunk() {
            let (leaf, rest) = rest.split_at(u16::from_be_bytes(*length).into());
            read.push(leaf_hash(leaf));
            entries = rest.to_vec();
        }
        assert_eq!(tile, read[index as usize * 256..].as_flattened());
    }
    assert_eq!(read, leaves);
    let beyond =
        Coordinates::parse(&Coordinates { level: 0, index: 2 }.path(size as usize % 256 + 1)).unwrap();
    assert!(matches!(log.resource(beyond).await, Err(Error::BeyondEnd { .. })));

    let export = world.export(tenant).await;
    let report = world.verify(&export).await.unwrap();
    let sealed = report.sealed.values().next().unwrap();
    assert_eq!((sealed.size, sealed.root, report.unsealed()), (size, head.root, 0));
    assert!(report.trusted && report.sealed_trusted && sealed.checkpoints > 10);
}

fn since(earlier: &Report) -> Against<'_> {
    Against { earlier: Some(earlier), ..Against::default() }
}

#[tokio::test]
async fn every_event_is_proven_in_memory() {
    every_event_is_proven(&World::new(1).await).await;
}

#[tokio::test]
async fn every_event_is_proven_on_lmdb() {
    let folder = tempfile::tempdir().unwrap();
    let key = Arc::new(FileKeyProvider::create(&folder.path().join("master.key")).unwrap());
    let options = LmdbOptions { map_size_bytes: 1 << 28, ..LmdbOptions::default() };
    let store = Store::lmdb(&folder.path().join("store"), options, key).await.unwrap();
    store.initialise().await.unwrap();
    every_event_is_proven(&World::on(store, 2).await).await;
}

#[tokio::test]
async fn what_does_not_exist_has_no_proof() {
    let world = World::new(3).await;
    let tenant = world.tenant().await;
    let (sealer, fence) = (world.sealer(SMALL).await, world.take(1, tenant).await);
    let log = world.log(tenant);
    assert!(matches!(log.checkpoint().await, Err(Error::Empty)));
    assert!(matches!(log.inclusion(Entry::Leaf(0), 0).await, Err(Error::Empty)));
    assert_eq!(sealer.advance(tenant, fence).await.unwrap(), Advance::AtEnd, "nothing to seal");
    assert!(matches!(log.checkpoint().await, Err(Error::Empty)), "an empty log has no checkpoint");
    world.record(tenant, 5).await;
    world.seal(&sealer, tenant, fence).await;
    for (entry, size) in
        [(Entry::Leaf(5), 0), (Entry::Leaf(3), 3), (Entry::Leaf(0), 6), (Entry::Leaf(u64::MAX), 0)]
    {
        assert!(
            matches!(log.inclusion(entry, size).await, Err(Error::BeyondEnd { .. })),
            "{entry:?} in {size}"
        );
    }
    let unknown = Entry::Event(EventId::from_bytes([9; 16]));
    assert!(matches!(log.inclusion(unknown, 0).await, Err(Error::UnknownEvent)));
    assert!(matches!(log.consistency(0, 0).await, Err(Error::Impossible(_))));
    assert!(matches!(log.consistency(4, 3).await, Err(Error::Impossible(_))));
    assert!(matches!(log.consistency(6, 0).await, Err(Error::Impossible(_) | Error::BeyondEnd { .. })));
    assert!(matches!(log.consistency(1, 6).await, Err(Error::BeyondEnd { sealed: 5, asked: 6 })));
}

#[tokio::test]
async fn a_log_is_sealed_once_a_second_while_there_is_something_to_seal() {
    let world = World::new(4).await;
    let tenant = world.tenant().await;
    let (sealer, fence) = (world.sealer(SMALL).await, world.take(1, tenant).await);
    world.record(tenant, 3).await;
    assert_eq!(sealer.advance(tenant, fence).await.unwrap(), Advance::AtEnd);
    let first = world.log(tenant).checkpoint().await.unwrap();
    world.record(tenant, 1).await;
    world.clock.advance(Duration::from_millis(400));
    assert_eq!(sealer.advance(tenant, fence).await.unwrap(), Advance::Later(Duration::from_millis(600)));
    world.clock.advance(Duration::from_millis(600));
    assert_eq!(sealer.advance(tenant, fence).await.unwrap(), Advance::AtEnd);
    assert_eq!(world.head(tenant).await.unwrap().size, 4);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(sealer.advance(tenant, fence).await.unwrap(), Advance::AtEnd);
    assert_ne!(world.log(tenant).checkpoint().await.unwrap(), first);
    assert_eq!(world.checkpoints_are_right(tenant).await, 2, "nothing new is not signed again");
    // A backlog is sealed step by step, without a pause.
    world.record(tenant, 130).await;
    for next in [Advance::More, Advance::More, Advance::AtEnd] {
        assert_eq!(sealer.advance(tenant, fence).await.unwrap(), next);
    }
}

#[tokio::test]
async fn of_each_minute_the_last_checkpoint_is_kept() {
    let world = World::new(5).await;
    let tenant = world.tenant().await;
    let options = Options { keep_each: Duration::from_secs(60), ..SMALL };
    let (sealer, fence) = (world.sealer(options).await, world.take(1, tenant).await);
    for _ in 0..10 {
        world.record(tenant, 1).await;
        world.seal(&sealer, tenant, fence).await;
        world.clock.advance(Duration::from_secs(20));
    }
    let kept = world.checkpoints_are_right(tenant).await;
    assert!((3..=5).contains(&kept), "{kept}");
    assert_eq!(world.verify(&world.export(tenant).await).await.unwrap().unsealed(), 0);
}

#[tokio::test]
async fn a_key_that_follows_another_is_trusted_through_the_first() {
    let world = World::new(6).await;
    let tenant = world.tenant().await;
    let (sealer, fence) = (world.sealer(SMALL).await, world.take(1, tenant).await);
    for _ in 0..3 {
        world.record(tenant, 4).await;
        world.seal(&sealer, tenant, fence).await;
        let now = aesp_proto::Clock::now(world.clock.as_ref());
        world.store.run(move |tx| Box::pin(async move { LogKeys::rotate(tx, now).await })).await.unwrap();
    }
    let keys = world.log_keys().await;
    assert_eq!(keys.len(), 4);
    let export = world.export(tenant).await;
    for key in [&keys[0], &keys[2], &keys[3]] {
        let trust = Trust { keys: Vec::new(), log_keys: vec![key.public] };
        let report = verify_with(export.as_slice(), &trust, Against::default()).unwrap();
        assert_eq!((report.sealed[&1].checkpoints, report.unsealed()), (3, 0));
    }
    let stranger = Trust { keys: Vec::new(), log_keys: vec![aesp_audit::PublicKey([7; 32])] };
    let broken = verify_with(export.as_slice(), &stranger, Against::default()).unwrap_err();
    assert!(broken.why.contains("no log key in the header is a trusted one"), "{broken}");
}

#[tokio::test]
async fn two_exports_of_one_log_fit_together_and_of_a_changed_one_do_not() {
    let world = World::new(7).await;
    let tenant = world.tenant().await;
    let (sealer, fence) = (world.sealer(SMALL).await, world.take(1, tenant).await);
    world.record(tenant, 30).await;
    world.seal(&sealer, tenant, fence).await;
    let early = world.verify(&world.export(tenant).await).await.unwrap();
    world.clock.advance(Duration::from_secs(2));
    world.record(tenant, 30).await;
    world.seal(&sealer, tenant, fence).await;
    let late = world.export(tenant).await;
    let trust = world.trust().await;
    let report = verify_with(late.as_slice(), &trust, since(&early)).unwrap();
    assert_eq!(report.events, 60);
    let broken = verify_with(world.export(tenant).await.as_slice(), &trust, since(&report)).map(|_| ());
    assert_eq!(broken, Ok(()), "the same log again");

    // Another history with the same tenant and keys: the chains of the first export are gone.
    let other = World::new(7).await;
    let same = other.tenant().await;
    assert_eq!(same, tenant);
    other.clock.advance(Duration::from_secs(10));
    let (sealer, fence) = (other.sealer(SMALL).await, other.take(1, tenant).await);
    other.record(tenant, 70).await;
    other.seal(&sealer, tenant, fence).await;
    let forged = other.export(tenant).await;
    let broken = verify_with(forged.as_slice(), &other.trust().await, since(&early)).unwrap_err();
    assert!(broken.why.contains("other export"), "{broken}");
}

#[tokio::test]
async fn a_restored_store_begins_another_log_that_names_the_old_ones_end() {
    let world = World::new(8).await;
    let tenant = world.tenant().await;
    let (sealer, fence) = (world.sealer(SMALL).await, world.take(1, tenant).await);
    world.record(tenant, 20).await;
    world.seal(&sealer, tenant, fence).await;
    let old = world.head(tenant).await.unwrap();
    // What was not sealed when the store was saved is sealed under the old origin all the same.
    world.record(tenant, 3).await;
    let log_epoch = world.store.run(|tx| Box::pin(async move { tx.raise_log_epoch(2).await })).await.unwrap();
    let (clock, origin) = (Arc::clone(&world.clock), Origin { log_epoch, told: Vec::new() });
    open_origins(&world.store, clock, &world.entropy, &origin).await.unwrap();
    world.clock.advance(Duration::from_secs(2));
    world.seal(&sealer, tenant, fence).await;
    let new = world.head(tenant).await.unwrap();
    assert_ne!(new.origin, old.origin);
    assert_eq!(new.size, 1);
    let report = world.verify(&world.export(tenant).await).await.unwrap();
    assert_eq!(report.sealed.len(), 2);
    assert_eq!((report.sealed[&1].origin.as_str(), report.sealed[&1].size), (old.origin.as_str(), 23));
    assert_eq!((report.sealed[&2].origin.as_str(), report.sealed[&2].size), (new.origin.as_str(), 1));
    let query = aesp_audit::Query { limit: 100, ..aesp_audit::Query::new(tenant) };
    let page = aesp_audit::query(&world.store, &query);
    let restored =
        page.await.unwrap().events.into_iter().find(|event| event.action == "store.restored").unwrap();
    assert_eq!(restored.metadata["last_checkpoint_origin"], old.origin);
    assert_eq!(restored.metadata["last_checkpoint_size"], "20");
}
