use std::collections::BTreeMap;

use aesp_backup::{Point, Shipper, SnapshotStep, Snapshotter, Version};
use aesp_proto::Timestamp;
use aesp_storage::{AtomicOp, Commit, Engine, Mutation};
use proptest::prelude::*;

use crate::fixture::{CHUNK, Fixture, Rows, raw, restored, rows};

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    Commit(Vec<Op>),
    /// Several at once, which may share a version.
    Together(Vec<Vec<Op>>),
    Ship,
    Copy,
    /// The shipper or the snapshotter dies and another begins.
    Restart,
}

#[derive(Clone, Debug)]
enum Op {
    Set(u8, Vec<u8>),
    Clear(u8),
    ClearRange(u8, u8),
    Add(u8, i64),
    StampedKey(u8),
    StampedValue(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(key, value)| Op::Set(key, value)),
        1 => any::<u8>().prop_map(Op::Clear),
        1 => any::<(u8, u8)>().prop_map(|(from, to)| Op::ClearRange(from, to)),
        1 => (0..8_u8, any::<i64>()).prop_map(|(key, delta)| Op::Add(key, delta)),
        1 => any::<u8>().prop_map(Op::StampedKey),
        1 => any::<u8>().prop_map(Op::StampedValue),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let ops = || prop::collection::vec(op(), 1..6);
    prop_oneof![
        8 => ops().prop_map(Event::Commit),
        1 => prop::collection::vec(ops(), 2..5).prop_map(Event::Together),
        2 => Just(Event::Ship),
        4 => Just(Event::Copy),
        1 => Just(Event::Restart),
    ]
}

fn mutation(op: &Op) -> Mutation {
    let key = |n: u8| raw(&format!("{n:03}"));
    match op {
        Op::Set(n, value) => Mutation::Set { key: key(*n), value: value.clone().into() },
        Op::Clear(n) => Mutation::Clear { key: key(*n) },
        Op::ClearRange(from, to) => Mutation::ClearRange { start: key(*from), end: key(*to) },
        Op::Add(n, delta) => Mutation::Atomic { key: raw(&format!("n{n}")), op: AtomicOp::Add(*delta) },
        Op::StampedKey(n) => {
            Mutation::StampedKey { prefix: raw("log"), suffix: vec![*n], value: vec![*n; 20].into() }
        }
        Op::StampedValue(n) => {
            Mutation::StampedValue { key: key(*n), prefix: b"at ".to_vec(), suffix: Vec::new() }
        }
    }
}

/// The rows after each version, read from the store itself as nobody else writes to it.
struct Run {
    fixture: Fixture,
    states: BTreeMap<u64, Rows>,
}

impl Run {
    async fn remember(&mut self) {
        let version = self.fixture.engine.snapshot().await.unwrap().version();
        self.states.insert(version, rows(&self.fixture.engine).await);
    }

    fn at(&self, version: u64) -> &Rows {
        self.states.range(..=version).next_back().unwrap().1
    }
}

async fn run(events: Vec<Event>) {
    let fixture = Fixture::new().await;
    // Rows from before the journal, so that only a snapshot has them.
    fixture.set("before", b"the journal").await;
    let mut writer = fixture.writer().await;
    let mut shipper = Shipper::new(writer.clone());
    let mut snapshotter = Snapshotter::resume(writer.clone(), CHUNK).await.unwrap();
    let mut run = Run { fixture, states: BTreeMap::new() };
    run.remember().await;
    for event in events {
        match event {
            Event::Commit(ops) => {
                let mutations = ops.iter().map(mutation).collect();
                run.fixture.engine.commit(Commit { mutations, ..Commit::default() }).await.unwrap();
                run.remember().await;
            }
            Event::Together(all) => {
                let commits = all.iter().map(|ops| {
                    let mutations = ops.iter().map(mutation).collect();
                    run.fixture.engine.commit(Commit { mutations, ..Commit::default() })
                });
                let before = run.fixture.engine.snapshot().await.unwrap().version();
                futures::future::try_join_all(commits).await.unwrap();
                let after = run.fixture.engine.snapshot().await.unwrap().version();
                run.remember().await;
                // In several groups perhaps: what was between can't be asked any more.
                for between in before + 1..after {
                    run.states.insert(between, Vec::new());
                }
            }
            Event::Ship => {
                shipper.step().await.unwrap();
            }
            Event::Copy => {
                if let SnapshotStep::Complete(_) = snapshotter.step().await.unwrap() {
                    snapshotter = Snapshotter::resume(writer.clone(), CHUNK).await.unwrap();
                }
            }
            Event::Restart => {
                writer = run.fixture.writer().await;
                shipper = Shipper::new(writer.clone());
                snapshotter = Snapshotter::resume(writer.clone(), CHUNK).await.unwrap();
            }
        }
    }
    while !matches!(snapshotter.step().await.unwrap(), SnapshotStep::Complete(_)) {}
    shipper.step().await.unwrap();
    compare(&run).await;
}

/// Restores every version that can be restored and compares it, byte for byte.
async fn compare(run: &Run) {
    let archive = run.fixture.archive().await;
    let info = archive.info().await.unwrap();
    assert_eq!(info.lines.len(), 1, "a restart does not break the line");
    let from =
        info.snapshots.iter().filter(|snapshot| snapshot.restorable).map(|found| found.from).min().unwrap();
    for snapshot in &info.snapshots {
        archive.verify(snapshot.id, &mut |_| {}).await.unwrap();
    }
    for (version, expected) in run.states.range(from.0..) {
        if expected.is_empty() && *version > from.0 {
            continue;
        }
        let (found, restored) = restored(&archive, Point::Version(Version(*version))).await.unwrap();
        assert_eq!(&found, run.at(*version), "version {version}");
        assert!(restored.version.0 <= *version);
    }
    let (found, last) = restored(&archive, Point::Latest).await.unwrap();
    assert_eq!(found, rows(&run.fixture.engine).await);
    assert_eq!(last.rows, found.len() as u64);
    // Whatever the time of the last commit is, all up to it is there.
    let (again, _) = restored(&archive, Point::Time(Timestamp(last.time.0))).await.unwrap();
    assert_eq!(again, found);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn every_version_comes_back_exactly(events in prop::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(events));
    }
}
