//! Measures how fast a backlog is sealed on LMDB, one tenant and many:
//! `cargo run --release -p aesp-transparency --example seal_rate [events]`.
#![expect(clippy::print_stdout, reason = "it is a command-line program")]
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first surprise")]

use std::sync::Arc;

use aesp_audit::{Event, Recorder};
use aesp_cluster::Ownership;
use aesp_follow::{Advance, Follower};
use aesp_proto::{
    Clock, Entropy, Incarnation, SystemClock, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::{FileKeyProvider, LmdbOptions, Store};
use aesp_transparency::{Metrics, Options, Sealer};
use tokio::{task::JoinSet, time::Instant};

#[tokio::main]
async fn main() {
    let events: usize = std::env::args().nth(1).map_or(200_000, |count| count.parse().unwrap());
    for tenants in [1, 100] {
        let folder = tempfile::tempdir().unwrap();
        let key = Arc::new(FileKeyProvider::create(&folder.path().join("master.key")).unwrap());
        let options = LmdbOptions { map_size_bytes: 8 << 30, ..LmdbOptions::default() };
        let store = Store::lmdb(&folder.path().join("store"), options, key).await.unwrap();
        store.initialise().await.unwrap();
        let entropy = Entropy::from_system();
        let all: Vec<TenantId> = (0..tenants).map(|_| TenantId::random(&entropy)).collect();
        for tenant in all.clone() {
            store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await })).await.unwrap();
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let options = aesp_audit::Options::default();
        let recorder = Recorder::start(store.clone(), Arc::clone(&clock), entropy.clone(), options);
        let (recorder, _duty) = recorder.await.unwrap();
        for number in 0..events / 500 {
            let tenant = all[number % all.len()];
            let kind = EventType::ToolInvocation;
            let event = || Event::new(&entropy, tenant, kind, "tool.invoke", Outcome::Success);
            recorder.append((0..500).map(|_| event()).collect()).await.unwrap();
        }
        let claimed = store.run(|tx| Box::pin(async move { tx.claim_shards(1).await })).await.unwrap();
        let ownership = Ownership::all(Incarnation(1), &claimed);
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let sealer = Sealer::new(store, recorder, clock, entropy, metrics, Options::default()).await.unwrap();
        let (sealer, start) = (Arc::new(sealer), Instant::now());
        let mut sealing = JoinSet::new();
        for tenant in all {
            let (sealer, fence) = (Arc::clone(&sealer), ownership.fence(tenant.as_bytes()).unwrap());
            sealing
                .spawn(async move { while sealer.advance(tenant, fence).await.unwrap() == Advance::More {} });
        }
        sealing.join_all().await;
        let taken = start.elapsed();
        println!(
            "{tenants:>3} tenants: {events} events sealed in {taken:.2?}: {:.0} events/s",
            events as f64 / taken.as_secs_f64()
        );
    }
}
