//! Whatever happens to sealers, there are never two different checkpoints of one size.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aesp_follow::Follower;
use aesp_merkle::{Checkpoint, Hash};
use aesp_proto::TenantId;
use aesp_storage::Turbulence;
use aesp_transparency::Options;
use proptest::prelude::*;

use crate::world::World;

/// What happens next, to one of three nodes.
#[derive(Clone, Debug)]
enum Step {
    /// Events are committed.
    Record(u8),
    /// A node becomes the home; those before go on with their old fences until they meet them.
    Take(u8),
    /// A node begins a step, whether it is the home or not.
    Seal(u8),
    /// Everything runs for a while.
    Wait(u8),
    /// A node is killed in whatever it does, and starts again.
    Kill(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..40_u8).prop_map(Step::Record),
        2 => (0..3_u8).prop_map(Step::Take),
        6 => (0..3_u8).prop_map(Step::Seal),
        4 => (0..8_u8).prop_map(Step::Wait),
        2 => (0..3_u8).prop_map(Step::Kill),
    ]
}

/// Every root that was ever seen signed, by its size.
type Seen = Arc<Mutex<BTreeMap<(String, u64), Hash>>>;

fn see(seen: &Seen, head: Checkpoint) {
    let at = (head.origin, head.size);
    let before = *seen.lock().unwrap().entry(at.clone()).or_insert(head.root);
    assert_eq!(before, head.root, "two checkpoints of {at:?}");
}

async fn look(world: &World, tenant: TenantId, seen: &Seen) {
    if let Some(head) = world.head(tenant).await {
        see(seen, head);
    }
}

async fn run(seed: u64, steps: Vec<Step>) {
    const OPTIONS: Options =
        Options { pace: Duration::ZERO, events: 16, bytes: 1_000_000, keep_each: Duration::ZERO };
    let world = Arc::new(World::new(seed).await);
    let tenant = world.tenant().await;
    // The sealers' way to the store: slow, with conflicts, and commits of which nobody knows whether they landed.
    let (store, _engine, faults) = world.store.with_faults();
    faults.turbulence(Some(Turbulence {
        spurious_conflict_one_in: 6,
        unknown_commit_one_in: 6,
        seed,
        ..Turbulence::default()
    }));
    let mut sealers = Vec::new();
    for _ in 0..3 {
        sealers.push(Arc::new(world.sealer_on(store.clone(), OPTIONS).await));
    }
    let mut fences = [world.take(1, tenant).await; 3];
    let mut running: Vec<Vec<tokio::task::JoinHandle<()>>> = (0..3).map(|_| Vec::new()).collect();
    let (seen, mut incarnation) = (Seen::default(), 1);
    for step in steps {
        match step {
            Step::Record(events) => world.record(tenant, events.into()).await,
            Step::Take(node) => {
                incarnation += 1;
                fences[usize::from(node)] = world.take(incarnation, tenant).await;
            }
            Step::Seal(node) => {
                let (sealer, fence) = (Arc::clone(&sealers[usize::from(node)]), fences[usize::from(node)]);
                let (world, seen) = (Arc::clone(&world), Arc::clone(&seen));
                running[usize::from(node)].push(tokio::spawn(async move {
                    // A fence that is over is refused; only what is signed counts here.
                    drop(sealer.advance(tenant, fence).await);
                    look(&world, tenant, &seen).await;
                }));
            }
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms.into())).await,
            Step::Kill(node) => {
                running[usize::from(node)].drain(..).for_each(|task| task.abort());
                sealers[usize::from(node)] = Arc::new(world.sealer_on(store.clone(), OPTIONS).await);
            }
        }
        look(&world, tenant, &seen).await;
    }
    for task in running.into_iter().flatten() {
        // Its assertions count.
        if let Err(error) = task.await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
    // The last home goes on to the end.
    let fence = world.take(incarnation + 1, tenant).await;
    world.record(tenant, 1).await;
    let sealer = world.sealer(OPTIONS).await;
    world.seal(&sealer, tenant, fence).await;
    look(&world, tenant, &seen).await;
    let leaves = world.leaves(tenant).await;
    assert_eq!(world.head(tenant).await.unwrap().size, leaves.len() as u64, "everything is sealed");
    world.checkpoints_are_right(tenant).await;
    for ((_, size), root) in seen.lock().unwrap().iter() {
        assert_eq!(*root, aesp_merkle::Tree::new(leaves[..*size as usize].to_vec()).root(), "size {size}");
    }
    assert_eq!(world.verify(&world.export(tenant).await).await.unwrap().unsealed(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn sealers_that_are_killed_paused_or_doubled_never_fork(
        seed in any::<u64>(), steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(seed, steps));
    }
}
