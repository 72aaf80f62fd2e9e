//! The platform log: whatever happens to its homes, there are never two different checkpoints of one size, and what is read of it leads
//! to what was signed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aesp_cluster::Fence;
use aesp_merkle::{
    Checkpoint, Coordinates, Cosigner, Hash, Tree, leaf_hash, proof::is_consistent, root_of_path,
};
use aesp_proto::{Clock, TenantId};
use aesp_storage::{Kind, Store, Turbulence};
use aesp_transparency::{
    Error, Options,
    platform::{self, Grower, PlatformLog},
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use proptest::prelude::*;

use crate::world::World;

const SMALL: platform::Options = platform::Options { pace: Duration::ZERO, heads: 3, tenants: 2 };

fn grower(world: &World, store: &Store) -> Grower {
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    Grower::new(store.clone(), clock, world.entropy.clone(), SMALL)
}

/// Grows the log to the end of the queue.
async fn grow_to_end(world: &World, fence: Fence) -> u64 {
    loop {
        let grown = grower(world, &world.store).step(fence).await.unwrap();
        if !grown.more {
            return grown.size;
        }
    }
}

fn log(world: &World) -> PlatformLog {
    PlatformLog::new(world.store.clone(), Arc::clone(&world.clock) as Arc<dyn Clock>)
}

/// Returns the leaves, as they are served, which must lead to the signed root.
async fn leaves(world: &World) -> (Checkpoint, Vec<String>) {
    let head = world.open(&log(world).status().await.unwrap().note).await;
    let mut out = Vec::new();
    let mut hashes = Vec::new();
    for index in 0..head.size.div_ceil(256) {
        let width = Coordinates { level: 0, index }.width(head.size);
        let path = |kind: &str| match width {
            256 => format!("tile/{kind}/{index:03}"),
            width => format!("tile/{kind}/{index:03}.p/{width}"),
        };
        let bundle = log(world).resource(Coordinates::parse(&path("entries")).unwrap()).await.unwrap();
        let mut rest = bundle.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (leaf, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
            out.push(String::from_utf8(leaf.to_vec()).unwrap());
            rest = after;
        }
        hashes.extend(log(world).resource(Coordinates::parse(&path("0")).unwrap()).await.unwrap());
    }
    let hashed: Vec<Hash> = out.iter().map(|leaf| leaf_hash(leaf.as_bytes())).collect();
    assert_eq!(hashes, hashed.as_flattened(), "the tiles are those of the leaves");
    assert_eq!(Tree::new(hashed).root(), head.root);
    (head, out)
}

#[tokio::test]
async fn each_tenants_newest_head_is_in_it_and_proven() {
    let world = World::new(1).await;
    let tenants = [world.tenant().await, world.tenant().await, world.tenant().await];
    let sealer = world.sealer(Options { pace: Duration::ZERO, ..Options::default() }).await;
    assert!(matches!(log(&world).status().await, Err(Error::Empty)));
    for round in 0..4 {
        for tenant in tenants {
            let fence = world.take(10 + round, tenant).await;
            world.record(tenant, 3).await;
            world.seal(&sealer, tenant, fence).await;
        }
        let fence = world.take(10 + round, TenantId::PLATFORM).await;
        // The first round gathers what was sealed before; nothing of it comes twice.
        let size = grow_to_end(&world, fence).await;
        assert_eq!(size, 3 * (round + 1));
        for tenant in tenants {
            let proof = log(&world).head_proof(tenant, 0).await.unwrap();
            let head = world.head(tenant).await.unwrap();
            assert_eq!(proof.leaf, head.text());
            let root = root_of_path(leaf_hash(proof.leaf.as_bytes()), proof.index, proof.size, &proof.path);
            assert_eq!(root, Some(proof.root));
            assert_eq!(world.open(&proof.checkpoint).await.root, proof.root);
            assert!(log(&world).head_proof(tenant, 3).await.unwrap().leaf.contains("\n3\n"));
            assert!(matches!(log(&world).head_proof(tenant, 2).await, Err(Error::UnknownHead(2))));
        }
    }
    let (_, all) = leaves(&world).await;
    for leaf in &all {
        assert!(Checkpoint::read(leaf).unwrap().origin.starts_with("aesp/"), "{leaf}");
        for tenant in tenants {
            assert!(!leaf.contains(&tenant.to_string()), "a leaf names a tenant");
        }
    }
    let waiting = world.rows(TenantId::PLATFORM, Kind::PLATFORM_LOG_NEWS).await;
    assert!(waiting.is_empty(), "everything was taken out of the queue");
}

#[tokio::test]
async fn a_log_that_grows_all_the_time_waits_for_its_witnesses_no_longer_than_one_that_does_not() {
    let world = World::new(4).await;
    let tenant = world.tenant().await;
    let sealer = world.sealer(Options { pace: Duration::ZERO, ..Options::default() }).await;
    let mut incarnation = 10;
    let mut second = async || {
        world.clock.advance(Duration::from_secs(1));
        incarnation += 2;
        let fence = world.take(incarnation, tenant).await;
        world.record(tenant, 1).await;
        world.seal(&sealer, tenant, fence).await;
        let fence = world.take(incarnation + 1, TenantId::PLATFORM).await;
        (grow_to_end(&world, fence).await, fence)
    };
    let shown = async || Checkpoint::glance(&log(&world).checkpoint().await.unwrap()).unwrap().size;
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let witness = Cosigner::new("w", pair.public_key().as_ref().try_into().unwrap()).unwrap();
    let (first, fence) = second().await;
    let (store, note) = (&world.store, log(&world).status().await.unwrap().note);
    let line = witness.cosign(&Checkpoint::glance(&note).unwrap().text(), 5, &pair);
    let cosigned =
        store.run_borrowing(|tx| Box::pin(platform::cosign(tx, fence, &note, &line, &|_: &str| true)));
    cosigned.await.unwrap();
    // Nobody cosigns any more; for five seconds the last with its quorum is shown.
    for _ in 0..5 {
        second().await;
        assert_eq!(shown().await, first);
    }
    let (newest, _) = second().await;
    assert_eq!(shown().await, newest);
    let since = log(&world).status().await.unwrap().quorate_since;
    assert_eq!(world.clock.now().since(since), Duration::from_secs(5), "anchors wait by this");
}

#[tokio::test]
async fn a_restored_store_begins_another_log_whose_first_leaf_is_the_head_before() {
    let world = World::new(2).await;
    let tenant = world.tenant().await;
    let sealer = world.sealer(Options { pace: Duration::ZERO, ..Options::default() }).await;
    let fence = world.take(10, tenant).await;
    world.record(tenant, 3).await;
    world.seal(&sealer, tenant, fence).await;
    let fence = world.take(11, TenantId::PLATFORM).await;
    grow_to_end(&world, fence).await;
    let (before, _) = leaves(&world).await;
    world.store.run(|tx| Box::pin(async move { tx.raise_log_epoch(0).await })).await.unwrap();
    grow_to_end(&world, fence).await;
    let (after, all) = leaves(&world).await;
    assert_ne!(before.origin, after.origin);
    assert_eq!(all[0], before.text());
    // The heads are all in the new one.
    assert_eq!(log(&world).head_proof(tenant, 0).await.unwrap().origin, after.origin);
}

#[tokio::test]
async fn what_was_changed_in_the_store_is_signed_no_further_and_not_proven() {
    for kind in [Kind::PLATFORM_LOG_TILE, Kind::PLATFORM_LOG_ENTRY, Kind::PLATFORM_LOG_STATE] {
        let world = World::new(3).await;
        let tenant = world.tenant().await;
        let sealer = world.sealer(Options { pace: Duration::ZERO, ..Options::default() }).await;
        let seal = async |incarnation| {
            let fence = world.take(incarnation, tenant).await;
            world.record(tenant, 1).await;
            world.seal(&sealer, tenant, fence).await;
            world.take(incarnation + 1, TenantId::PLATFORM).await
        };
        let fence = seal(10).await;
        grow_to_end(&world, fence).await;
        for (key, mut value) in world.rows(TenantId::PLATFORM, kind).await {
            let at = value.iter().rposition(|byte| *byte == b'A').unwrap_or(value.len() / 2);
            value[at] ^= 1;
            world.overwrite(key, Some(value)).await;
        }
        let proof = log(&world).head_proof(tenant, 0).await;
        assert!(matches!(proof, Err(Error::Damaged(_) | Error::Store(_))), "{kind:?}: {proof:?}");
        if kind != Kind::PLATFORM_LOG_ENTRY {
            let fence = seal(20).await;
            let grown = grower(&world, &world.store).step(fence).await;
            assert!(matches!(grown, Err(Error::Damaged(_) | Error::Store(_))), "{kind:?}: {grown:?}");
        }
    }
}

/// What happens next, to one of three nodes.
#[derive(Clone, Debug)]
enum Step {
    /// Events of a tenant are committed and sealed.
    Seal(u8, u8),
    /// A node becomes the home; those before go on with their old fences until they meet them.
    Take(u8),
    /// A node begins a step, whether it is the home or not.
    Grow(u8),
    /// Everything runs for a while.
    Wait(u8),
    /// A node is killed in whatever it does, and starts again.
    Kill(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, 1..5_u8).prop_map(|(tenant, events)| Step::Seal(tenant, events)),
        2 => (0..3_u8).prop_map(Step::Take),
        6 => (0..3_u8).prop_map(Step::Grow),
        4 => (0..8_u8).prop_map(Step::Wait),
        2 => (0..3_u8).prop_map(Step::Kill),
    ]
}

type Seen = Arc<Mutex<BTreeMap<u64, Hash>>>;

async fn look(world: &World, seen: &Seen) {
    let Ok(status) = log(world).status().await else { return };
    let head = world.open(&status.note).await;
    let before = *seen.lock().unwrap().entry(head.size).or_insert(head.root);
    assert_eq!(before, head.root, "two checkpoints of size {}", head.size);
}

async fn run(seed: u64, steps: Vec<Step>) {
    let world = Arc::new(World::new(seed).await);
    let tenants = [world.tenant().await, world.tenant().await, world.tenant().await];
    let sealer = world.sealer(Options { pace: Duration::ZERO, ..Options::default() }).await;
    // The homes' way to the store: slow, with conflicts, and commits of which nobody knows whether they landed.
    let (store, _engine, faults) = world.store.with_faults();
    faults.turbulence(Some(Turbulence {
        spurious_conflict_one_in: 6,
        unknown_commit_one_in: 6,
        seed,
        ..Turbulence::default()
    }));
    let mut fences = [world.take(1, TenantId::PLATFORM).await; 3];
    let mut running: Vec<Vec<tokio::task::JoinHandle<()>>> = (0..3).map(|_| Vec::new()).collect();
    let (seen, mut incarnation) = (Seen::default(), 1);
    for step in steps {
        match step {
            Step::Seal(tenant, events) => {
                let tenant = tenants[usize::from(tenant)];
                world.record(tenant, events.into()).await;
                // The sealer's shard is another one's only by its number: it takes all of them, and gives the platform's back.
                incarnation += 1;
                let fence = world.take(incarnation, tenant).await;
                world.seal(&sealer, tenant, fence).await;
                incarnation += 1;
                fences[0] = world.take(incarnation, TenantId::PLATFORM).await;
            }
            Step::Take(node) => {
                incarnation += 1;
                fences[usize::from(node)] = world.take(incarnation, TenantId::PLATFORM).await;
            }
            Step::Grow(node) => {
                let (fence, store) = (fences[usize::from(node)], store.clone());
                let (world, seen) = (Arc::clone(&world), Arc::clone(&seen));
                running[usize::from(node)].push(tokio::spawn(async move {
                    // A fence that is over is refused; only what is signed counts here.
                    drop(grower(&world, &store).step(fence).await);
                    look(&world, &seen).await;
                }));
            }
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms.into())).await,
            Step::Kill(node) => running[usize::from(node)].drain(..).for_each(|task| task.abort()),
        }
        look(&world, &seen).await;
    }
    for task in running.into_iter().flatten() {
        // Its assertions count.
        if let Err(error) = task.await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
    // The last home goes on to the end.
    for tenant in tenants {
        incarnation += 1;
        let fence = world.take(incarnation, tenant).await;
        world.record(tenant, 1).await;
        world.seal(&sealer, tenant, fence).await;
    }
    let fence = world.take(incarnation + 1, TenantId::PLATFORM).await;
    grow_to_end(&world, fence).await;
    look(&world, &seen).await;
    let (head, all) = leaves(&world).await;
    // The heads of each log only grow, and the last of each is its newest.
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for leaf in &all {
        let head = Checkpoint::read(leaf).unwrap();
        let before = last.insert(head.origin, head.size).unwrap_or(0);
        assert!(before < head.size, "a log went back from {before} to {}", head.size);
    }
    for tenant in tenants {
        let newest = world.head(tenant).await.unwrap();
        assert_eq!(last[&newest.origin], newest.size);
    }
    let seen = seen.lock().unwrap().clone();
    for (size, root) in seen {
        let proof = log(&world).consistency(size, 0).await.unwrap();
        assert_eq!(proof.from, (size, root));
        assert!(is_consistent((size, &root), (head.size, &head.root), &proof.proof));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn homes_that_are_killed_paused_or_doubled_never_fork(
        seed in any::<u64>(), steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(seed, steps));
    }
}
