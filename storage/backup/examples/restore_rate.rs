//! Measures a backup and a restore: `cargo run --release -p aesp-backup --example restore_rate -- [folder] [megabytes]`.
#![expect(clippy::print_stdout, reason = "prints what it measures")]
#![expect(clippy::unwrap_used, reason = "a measurement that can not go on ends")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aesp_backup::{
    Archive, ArchiveKey, ClusterId, Credentials, Point, Scope, Shipper, SnapshotOptions, SnapshotStep,
    Snapshotter, Target,
};
use aesp_proto::{Entropy, TenantId};
use aesp_storage::{Commit, Engine, FileKeyProvider, Kind, LmdbEngine, LmdbOptions, Mutation, row_key};
use tokio::time::Instant;

const TENANT: TenantId = TenantId::from_bytes([9; 16]);
const VALUE_BYTES: usize = 600;
const ROWS_A_COMMIT: u64 = 2000;

#[tokio::main]
async fn main() {
    let mut given = std::env::args().skip(1);
    let folder = given.next().map(PathBuf::from);
    let folder =
        folder.unwrap_or_else(|| std::env::temp_dir().join(format!("restore_rate-{}", std::process::id())));
    let megabytes: u64 = given.next().map_or(256, |megabytes| megabytes.parse().unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    let engine = LmdbEngine::open(&folder.join("store"), LmdbOptions::default()).await.unwrap();
    let provider = Arc::new(FileKeyProvider::create(&folder.join("master.key")).unwrap());
    let url = format!("file://{}", folder.join("archive").display());
    let target = Target::parse(&url, Credentials::default()).unwrap();
    let key = ArchiveKey { provider, description: "file".into() };
    let archive = Archive::open(&target, &ClusterId("measured".into()), key).await.unwrap();
    let entropy = Entropy::from_seed(1);
    let rows = (megabytes << 20) / (VALUE_BYTES as u64 + 26);
    for first in (0..rows).step_by(ROWS_A_COMMIT as usize) {
        put(&engine, &entropy, first).await;
    }
    let writer = archive.claim(&engine, 8 << 30).await.unwrap();

    println!("commits while nothing else happens: {}", latencies(&engine, &entropy, None).await);
    let started = Instant::now();
    let done = Arc::new(AtomicBool::new(false));
    let backing_up = {
        let (writer, done) = (writer.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut shipper = Shipper::new(writer.clone());
            let mut snapshotter = Snapshotter::new(writer, SnapshotOptions::default());
            let info = loop {
                match snapshotter.step().await.unwrap() {
                    SnapshotStep::Chunk { pause, .. } => tokio::time::sleep(pause).await,
                    SnapshotStep::Complete(info) => break info,
                }
                shipper.step().await.unwrap();
            };
            done.store(true, Ordering::SeqCst);
            shipper.step().await.unwrap();
            info
        })
    };
    println!("commits while a snapshot is taken:   {}", latencies(&engine, &entropy, Some(&done)).await);
    let info = backing_up.await.unwrap();
    println!(
        "snapshot of {} rows, {} MB in the archive: {:?}",
        info.rows,
        info.bytes >> 20,
        started.elapsed()
    );

    let started = Instant::now();
    let report = archive.verify(info.id, &mut |_| {}).await.unwrap();
    println!("verification of {} MB: {:?}", report.bytes >> 20, started.elapsed());
    let restored = LmdbEngine::open(&folder.join("restored"), LmdbOptions::default()).await.unwrap();
    let started = Instant::now();
    let found = archive.restore(Point::Latest, Scope::Everything, &restored, &mut |_| {}).await.unwrap();
    let took = started.elapsed();
    let rate = found.bytes as f64 / took.as_secs_f64() / f64::from(1 << 20);
    println!(
        "restore of {} rows, {} MB, {} commits: {took:?}, {rate:.0} MB/s",
        found.rows,
        found.bytes >> 20,
        found.commits
    );
    drop((engine, restored));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Writes rows that don't shrink, as sealed ones.
async fn put(engine: &LmdbEngine, entropy: &Entropy, first: u64) {
    let row = |n: u64| {
        let value = noise(entropy);
        Mutation::Set { key: row_key(TENANT, Kind::SESSION, &n.to_be_bytes()), value: value.into() }
    };
    let mutations = (first..first + ROWS_A_COMMIT).map(row).collect();
    engine.commit(Commit { mutations, ..Commit::default() }).await.unwrap();
}

/// Commits one row after the other for 5 s, or until it is done, and says how long they took.
async fn latencies(engine: &LmdbEngine, entropy: &Entropy, done: Option<&AtomicBool>) -> String {
    let started = Instant::now();
    let mut times = Vec::new();
    while done.map_or(started.elapsed() < Duration::from_secs(5), |done| !done.load(Ordering::SeqCst)) {
        let value = noise(entropy);
        let key = row_key(TENANT, Kind::OUTCOME, &(times.len() as u64).to_be_bytes());
        let before = Instant::now();
        let mutations = vec![Mutation::Set { key, value: value.into() }];
        engine.commit(Commit { mutations, ..Commit::default() }).await.unwrap();
        times.push(before.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    format!("p50 {:?}, p95 {:?}, p99 {:?} of {}", at(50), at(95), at(99), times.len())
}

fn noise(entropy: &Entropy) -> Vec<u8> {
    std::iter::repeat_with(|| entropy.bytes()).flatten().take(VALUE_BYTES).collect()
}
