use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_proto::{Entropy, Incarnation, ShardId, SystemClock, TenantId};
use aesp_storage::{Kind, Store, row_key};
use futures::future::{join, join_all};
use tokio::time::{Instant, timeout};

use super::{
    engine::Way,
    world::{LEASE, World},
};
use crate::{
    Changed, Cluster, Context, Duties, Held, Load, MemberState, Metrics, Notice, ObserveNotices, Options,
    RemoveError, look::View,
};

const SECOND: Duration = Duration::from_secs(1);

async fn healthy(names: &[&str]) -> World {
    let world = World::new(7, names, false).await;
    world.until("the cluster comes to rest", async |world| world.rests(names).await).await;
    world
}

/// Writes something else into the row of a kind.
async fn damage(world: &World, kind: Kind, key: &[u8]) {
    let key = &row_key(TenantId::PLATFORM, kind, key);
    let damaged = world.truth.run_borrowing(|tx| Box::pin(async move { tx.set_raw(key, b"\x01{\"na") }));
    damaged.await.map_err(|error: aesp_storage::Error| error).unwrap();
}

fn held(world: &World, name: &str) -> usize {
    let Some(cluster) = world.process(name).cluster() else { return 0 };
    let shards = cluster.ownership().shards();
    shards.iter().filter(|shard| shard.held == Held::Yes).count()
}

#[tokio::test(start_paused = true)]
async fn a_lone_node_has_everything_and_leaves_at_once() {
    let mut world = World::empty(1, &[], false).await;
    world.start_as("a", Options::new("a"));
    world.until("it has everything", async |world| world.rests(&["a"]).await).await;
    assert!(world.elapsed() < SECOND, "{:?}", world.elapsed());
    let cluster = world.cluster("a");
    assert_eq!(cluster.drain().await, 0);
    cluster.leave().await;
    assert!(!cluster.lease().is_held() && cluster.barrier().await.is_err());
    world.kill("a");
    let begun = world.elapsed();
    world.start_as("a", Options::new("a"));
    world.until("the next one begins", async |world| world.rests(&["a"]).await).await;
    assert!(world.elapsed() - begun < SECOND, "nobody waits for one that has left");
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_is_replaced_within_seconds() {
    let mut world = healthy(&["a", "b", "c"]).await;
    let begun = world.elapsed();
    world.kill("a");
    world.until("the others take over", async |world| world.rests(&["b", "c"]).await).await;
    let pause = world.elapsed() - begun;
    assert!(pause < LEASE * 3 / 2 + SECOND, "{pause:?}");
    world.start("a");
    world.until("it gets its share back", async |world| world.rests(&["a", "b", "c"]).await).await;
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_again_waits_for_the_end_of_its_last_life() {
    let mut world = healthy(&["a"]).await;
    world.kill("a");
    let begun = world.elapsed();
    world.start("a");
    world.until("it serves again", async |world| world.rests(&["a"]).await).await;
    let pause = world.elapsed() - begun;
    assert!(pause > LEASE && pause < LEASE * 3 / 2 + SECOND, "{pause:?}");
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn a_joining_node_takes_its_share_bit_by_bit_and_a_leaving_one_gives_all() {
    let mut world = healthy(&["a", "b"]).await;
    world.start("c");
    world.until("it has its share", async |world| world.rests(&["a", "b", "c"]).await).await;
    assert!((50..120).contains(&held(&world, "c")), "{}", held(&world, "c"));
    for name in ["a", "b"] {
        let most = world.process(name).duties.most_leaving.load(Ordering::SeqCst);
        assert!((1..=8).contains(&most), "{name} let {most} go at once");
    }
    let cluster = world.cluster("b");
    assert_eq!(cluster.drain().await, 0);
    cluster.leave().await;
    world.kill("b");
    let begun = world.elapsed();
    world.until("nobody waits for it", async |world| world.rests(&["a", "c"]).await).await;
    assert!(world.elapsed() - begun < SECOND / 2);
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_kills_nobody() {
    let world = healthy(&["a", "b", "c"]).await;
    let lives: Vec<_> = ["a", "b", "c"].map(|name| world.own(name)).into();
    let losses = || ["a", "b", "c"].map(|name| world.process(name).duties.losses.load(Ordering::SeqCst));
    let before = losses();
    for name in ["a", "b", "c"] {
        world.cut_store(name, Way::Silent, 10 * SECOND);
    }
    tokio::time::sleep(9 * SECOND).await;
    assert!(["a", "b", "c"].iter().all(|name| held(&world, name) == 0), "nobody acts without a lease");
    assert_eq!(losses(), before.map(|losses| losses + 1), "all shards of a node are lost at once");
    assert!(world.cluster("a").ready().is_err());
    world.until("all go on", async |world| world.rests(&["a", "b", "c"]).await).await;
    assert_eq!(lives, ["a", "b", "c"].map(|name| world.own(name)), "in the same lives");
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn barriers_return_whatever_is_cut() {
    let world = healthy(&["a", "b", "c"]).await;
    let cluster = world.cluster("a");
    let revoke = async || {
        world
            .truth
            .run(|tx| Box::pin(async move { tx.bump_revision(TenantId::from_bytes([1; 16])).await }))
            .await
    };
    let pass = async || {
        revoke().await.unwrap();
        let begun = Instant::now();
        cluster.barrier().await.unwrap();
        begun.elapsed()
    };
    let took = pass().await;
    assert!(took < Duration::from_millis(50), "healthy: {took:?}");

    // No link to c: its row says what it has applied.
    for (from, to) in [("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")] {
        world.net.cut(from, to);
    }
    let took = pass().await;
    assert!(took < LEASE / 4 + LEASE / 4, "without links: {took:?}");

    tokio::time::sleep(11 * SECOND).await;

    // Neither link nor store: it is dead before the barrier returns, and does nothing from before that.
    let c = world.cluster("c");
    world.cut_store("c", Way::Silent, 60 * SECOND);
    let took = pass().await;
    assert!(took > LEASE && took < LEASE * 3 / 2 + SECOND, "without the store: {took:?}");
    assert!(!c.lease().is_held() && held(&world, "c") == 0);
    assert!(!cluster.status().await.unwrap().iter().any(|node| node.incarnation == c.own()));

    // The store does not answer the asker: no success.
    world.cut_store("a", Way::Refused, SECOND);
    assert!(cluster.barrier().await.is_err());
    assert!(world.finish().notices["node_unreachable"] >= 1);
}

#[tokio::test(start_paused = true)]
async fn barriers_that_wait_look_at_the_store_together() {
    const BARRIERS: usize = 50;
    let world = healthy(&["a", "b", "c"]).await;
    let snapshots = || world.process("a").engine.snapshots.load(Ordering::SeqCst);
    let before = snapshots();
    tokio::time::sleep(LEASE).await;
    let quiet = snapshots() - before;
    let bump = world.truth.run(|tx| Box::pin(async move { tx.bump_revision(TenantId::PLATFORM).await }));
    world.cut_store("c", Way::Silent, 60 * SECOND);
    world.process("c").duties.stuck.store(true, Ordering::SeqCst);
    bump.await.unwrap();
    let (a, begun) = (world.cluster("a"), Instant::now());
    let before = snapshots();
    let early = async {
        tokio::time::sleep(LEASE).await;
        snapshots() - before
    };
    let (passed, early) = join(join_all((0..BARRIERS).map(|_| a.barrier())), early).await;
    assert!(passed.iter().all(Result::is_ok), "{passed:?}");
    assert!(begun.elapsed() > LEASE, "they waited for the death of c: {:?}", begun.elapsed());
    // Each looks once by itself; from then on all look together, some times a lease.
    let looked = snapshots() - before;
    assert!(looked < 3 * BARRIERS, "{BARRIERS} barriers took {looked} snapshots");
    println!("{early} snapshots in the first lease, {quiet} in one without barriers");
    assert!(
        early > BARRIERS + quiet + 4,
        "they wait for the looks of renewals: {early}, {quiet} without them"
    );
    world.finish();
}

/// Lets c join, with a right that it has loaded revoked before it is admitted, and that it can't apply.
async fn revoked_while_it_joins(hasty: bool) -> World {
    let mut world = healthy(&["a", "b"]).await;
    world.start("c");
    let duties = Arc::clone(&world.process("c").duties);
    duties.hasty.store(hasty, Ordering::SeqCst);
    duties.dawdling.send_replace(true);
    duties.stuck.store(true, Ordering::SeqCst);
    let loaded = async |_: &World| !duties.rights.lock().unwrap().is_empty();
    world.until("c has loaded its rights", loaded).await;
    // Nobody waits for a node that is joining.
    world.revoke("a", 0);
    world.until("the barrier returns", async |world| world.common.model.barriers() == 1).await;
    duties.dawdling.send_replace(false);
    world
}

#[tokio::test(start_paused = true)]
async fn a_node_acts_on_nothing_before_what_was_revoked_while_it_joined_is_applied() {
    let world = revoked_while_it_joins(false).await;
    world
        .until("c's row says that it serves", async |world| {
            let view = View::take(&world.truth).await.unwrap();
            view.rows().any(|(_, row)| row.name == "c" && row.state == MemberState::Serving)
        })
        .await;
    tokio::time::sleep(LEASE / 2).await;
    world.check();
    assert!(!world.cluster("c").lease().is_held(), "it may act on what was revoked");
    world.process("c").duties.stuck.store(false, Ordering::SeqCst);
    world.until("c takes part", async |world| world.rests(&["a", "b", "c"]).await).await;
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_acts_before_it_is_admitted_is_found() {
    let world = revoked_while_it_joins(true).await;
    tokio::time::sleep(LEASE / 2).await;
    let found = std::mem::take(&mut *world.common.panics.lock().unwrap());
    assert!(found.iter().any(|what| what.starts_with("R1:")), "the planted fault is not found: {found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_apply_a_change_dies_of_it() {
    let world = healthy(&["a", "b"]).await;
    world.process("b").duties.stuck.store(true, Ordering::SeqCst);
    let b = world.own("b");
    let bump = world.truth.run(|tx| Box::pin(async move { tx.bump_revision(TenantId::PLATFORM).await }));
    bump.await.unwrap();
    let status = world.cluster("a").status().await.unwrap();
    assert!(status.iter().all(|node| node.behind == 1 || node.incarnation != b));
    timeout(3 * LEASE, world.cluster("a").barrier()).await.expect("it dies in time").unwrap();
    world.cluster("b").lease().lost().await;
    assert_eq!(held(&world, "b"), 0);
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn a_frozen_node_is_replaced_and_knows_it_when_it_wakes() {
    let world = healthy(&["a", "b"]).await;
    let a = world.cluster("a");
    world.freeze("a", 30 * SECOND);
    world.until("b has everything", async |world| held(world, "b") == 256).await;
    assert!(!a.lease().is_held(), "its lease is measured by time, not by its own steps");
    world.until("a hears of it", async |world| world.process("a").has_ended()).await;
    assert!(a.ready().unwrap_err().contains("declared dead"));
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn names_are_unique_and_lone_nodes_stay_alone() {
    let mut world = healthy(&["a", "b"]).await;
    let failed = async |world: &World, key: &str, text: &str| {
        world.until("it is refused", async |world| world.process(key).has_ended()).await;
        let failure = world.process(key).failure.lock().unwrap().clone().unwrap();
        assert!(failure.contains(text), "{failure}");
    };
    world.start_as("clone", World::options("a"));
    failed(&world, "clone", "NameTaken").await;
    world.start_as("lone", Options::new("lone"));
    failed(&world, "lone", "NotAlone").await;
    assert!(world.rests(&["a", "b"]).await, "nobody was disturbed: {}", world.describe().await);

    let mut world = World::empty(2, &[], false).await;
    world.start_as("lone", Options::new("lone"));
    world.until("it serves", async |world| world.rests(&["lone"]).await).await;
    world.start("a");
    failed(&world, "a", "LoneNodeLives").await;
    assert!(world.rests(&["lone"]).await);
}

#[tokio::test(start_paused = true)]
async fn clocks_that_are_wrong_keep_their_node_out() {
    let mut world = healthy(&["a", "b", "c"]).await;
    for off in [7_200_000, -1_500] {
        world.step_clock("d", off);
        world.start("d");
        world.until("it is refused", async |world| world.process("d").has_ended()).await;
        let failure = world.process("d").failure.lock().unwrap().clone().unwrap();
        assert!(failure.contains("ClockSkewed"), "{failure}");
        world.kill("d");
        assert!(world.cluster("a").ready().is_ok(), "and harms nobody");
    }
    world.step_clock("c", 3_600_000);
    world
        .until("c refuses", async |world| world.cluster("c").ready().is_err_and(|why| why.contains("clock")))
        .await;
    world.until("others have its shards", async |world| held(world, "a") + held(world, "b") == 256).await;
    let status = world.cluster("a").status().await.unwrap();
    let c = status.iter().find(|node| node.name == "c").unwrap();
    assert!(c.state == MemberState::Draining && c.skew_ms.unwrap() > 3_500_000, "{c:?}");
    world.step_clock("c", 0);
    world.until("it takes part again", async |world| world.rests(&["a", "b", "c"]).await).await;
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn damaged_rows_give_nothing_to_anybody() {
    let mut world = healthy(&["a", "b"]).await;
    let owner = world.own("a");
    let shards = world.cluster("a").ownership().shards();
    let shard = shards.iter().position(|shard| shard.owner == Some(owner)).unwrap();
    damage(&world, Kind::SHARD, &u16::try_from(shard).unwrap().to_be_bytes()).await;
    // A lease that its node still renews is written anew.
    damage(&world, Kind::NODE, &world.own("b").0.to_be_bytes()).await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(
        world.cluster("a").ownership().shards()[shard].held,
        Held::No,
        "its owner can write nothing in it"
    );
    assert_eq!(world.cluster("a").status().await.unwrap().len(), 2);
    assert!(world.cluster("a").status().await.unwrap().iter().all(|node| !node.damaged));

    world.kill("a");
    world.until("b has all but one", async |world| held(world, "b") == 255).await;
    let ownership = world.cluster("b").ownership().shards();
    assert_eq!(ownership[shard].held, Held::No);

    // One that nobody renews is believed to have the longest lease there is.
    world.start("a");
    world.until("a is back", async |world| held(world, "a") > 50).await;
    let (own, survivor) = (world.own("a"), world.cluster("b"));
    world.kill("a");
    damage(&world, Kind::NODE, &own.0.to_be_bytes()).await;
    tokio::time::sleep(LEASE * 2).await;
    let lives = survivor.status().await.unwrap().iter().any(|node| node.incarnation == own);
    assert!(!lives, "b knows how long its lease was");
    let tally = world.finish();
    assert!(tally.notices["row_damaged"] > 1, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn operators_see_drain_rebalance_and_remove() {
    let mut world = healthy(&["a", "b", "c"]).await;
    let a = world.cluster("a");
    let status = a.status().await.unwrap();
    let names: BTreeSet<_> = status.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["a", "b", "c"]));
    assert_eq!(status.iter().map(|node| node.shards).sum::<usize>(), 256);
    for node in &status {
        assert_eq!((node.state, node.damaged, node.behind), (MemberState::Serving, false, 0));
        assert_eq!(node.alive, (node.name != "a").then_some(true));
        assert!(node.lease_age_ms < 1_000 && node.skew_ms.unwrap_or_default().abs() < 500, "{node:?}");
    }
    assert_eq!(a.rebalance().await.unwrap(), 0);
    assert!(matches!(a.remove(Incarnation(999)).await, Err(RemoveError::Unknown(_))));

    // A living node is told to drain, from anywhere.
    a.remove(world.own("b")).await.unwrap();
    world.until("b is empty", async |world| held(world, "a") + held(world, "c") == 256).await;
    assert_eq!(held(&world, "b"), 0);
    let b = world.cluster("b");
    assert!(b.lease().is_held() && b.ready().is_ok(), "it still serves what others own");
    b.leave().await;
    world.kill("b");
    world.until("it is gone", async |world| world.rests(&["a", "c"]).await).await;
    let mut nodes = a.nodes();
    timeout(SECOND, nodes.wait_for(|nodes| nodes.len() == 2)).await.expect("a looks soon").unwrap();
    world.finish();
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_duty_ends_the_incarnation() {
    let world = healthy(&["a", "b"]).await;
    world.process("a").duties.broken.store(true, Ordering::SeqCst);
    let bump = world.truth.run(|tx| Box::pin(async move { tx.bump_revision(TenantId::PLATFORM).await }));
    bump.await.unwrap();
    world.until("a has ended", async |world| world.process("a").has_ended()).await;
    assert!(!world.cluster("a").lease().is_held());
    world.until("b has everything", async |world| held(world, "b") == 256).await;
    assert_eq!(world.finish().notices["task_panicked"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machine_s_own_clock_will_do() {
    struct Unheard;
    impl ObserveNotices for Unheard {
        fn noticed(&self, _: Notice) {}
    }
    struct Idle;
    #[async_trait::async_trait]
    impl Duties for Idle {
        async fn apply(&self, _: &Changed) -> Result<(), aesp_proto::Error> {
            Ok(())
        }
        async fn arrive(&self, _: ShardId) {}
        async fn hand_over(&self, _: ShardId, _: Duration) {}
        fn lose(&self, _: &[ShardId]) {}
        fn load(&self) -> Load {
            Load { sessions: 3, calls: 1 }
        }
    }
    let context = Context {
        store: Store::for_tests(),
        clock: Arc::new(SystemClock),
        entropy: Entropy::from_system(),
        metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
        notices: Arc::new(Unheard),
    };
    let cluster = Cluster::join(context, Options::new("a")).await.unwrap();
    assert!(!cluster.lease().is_held() && !cluster.ownership().holds_any());
    cluster.serve(Arc::new(Idle), None);
    let mut shards = cluster.ownership().subscribe();
    let all = shards.wait_for(|shards| shards.iter().all(|shard| shard.held == Held::Yes));
    timeout(20 * SECOND, all).await.expect("in time").unwrap();
    timeout(20 * SECOND, cluster.barrier()).await.expect("in time").unwrap();
    // Longer than the lease, which is renewed all the time.
    let end = Instant::now() + LEASE * 5 / 4;
    let lapsed = shards.wait_for(|shards| shards.iter().any(|shard| shard.held == Held::No));
    assert!(tokio::time::timeout_at(end, lapsed).await.is_err(), "the lease lapsed");
    let status = cluster.status().await.unwrap();
    assert_eq!((status.len(), status[0].shards, status[0].load.sessions), (1, 256, 3));
    assert_eq!(cluster.drain().await, 0);
    cluster.leave().await;
}
