//! A store with tenants, a recorder and sealers.

use std::sync::Arc;

use aesp_audit::{
    Against, Event, Export, LogKey, PublicKey, Recorder, Report, TimeRange, Trust, checkpoints, events,
    verify_with,
};
use aesp_cluster::{Fence, Ownership};
use aesp_follow::{Advance, Follower};
use aesp_merkle::{Checkpoint, Hash, Tree, leaf_hash};
use aesp_proto::{
    Clock, Entropy, Incarnation, ManualClock, TenantId, Timestamp,
    v1::{EventType, Outcome},
};
use aesp_storage::{Kind, Range, Store, row_key};
use aesp_transparency::{Log, LogKeys, Metrics, Options, Sealer};

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Entropy,
    pub(crate) recorder: Recorder,
    _duty: aesp_audit::Duty,
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        Self::on(Store::for_tests(), seed).await
    }

    pub(crate) async fn on(store: Store, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_790_000_000_000)));
        let entropy = Entropy::from_seed(seed);
        let at = Arc::clone(&clock) as Arc<dyn Clock>;
        let options = aesp_audit::Options::default();
        let (recorder, duty) = Recorder::start(store.clone(), at, entropy.clone(), options).await.unwrap();
        Self { store, clock, entropy, recorder, _duty: duty }
    }

    pub(crate) async fn tenant(&self) -> TenantId {
        let tenant = TenantId::random(&self.entropy);
        let made = self.store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await }));
        made.await.unwrap();
        tenant
    }

    /// Takes every shard, as a new home does, and returns the proof for this tenant.
    pub(crate) async fn take(&self, incarnation: u64, tenant: TenantId) -> Fence {
        let claim = self.store.run(move |tx| Box::pin(async move { tx.claim_shards(incarnation).await }));
        let ownership = Ownership::all(Incarnation(incarnation), &claim.await.unwrap());
        ownership.fence(tenant.as_bytes()).unwrap()
    }

    pub(crate) async fn sealer(&self, options: Options) -> Sealer {
        self.sealer_on(self.store.clone(), options).await
    }

    pub(crate) async fn sealer_on(&self, store: Store, options: Options) -> Sealer {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        Sealer::new(store, self.recorder.clone(), clock, self.entropy.clone(), metrics, options)
            .await
            .unwrap()
    }

    /// Records one commit with so many events of the tenant.
    pub(crate) async fn record(&self, tenant: TenantId, events: usize) {
        let event = || Event::new(&self.entropy, tenant, EventType::SystemEvent, "x", Outcome::Success);
        self.recorder.append((0..events).map(|_| event()).collect()).await.unwrap();
    }

    /// Seals to the end.
    pub(crate) async fn seal(&self, sealer: &Sealer, tenant: TenantId, fence: Fence) {
        loop {
            match sealer.advance(tenant, fence).await.unwrap() {
                Advance::AtEnd => return,
                Advance::More => {}
                Advance::Later(pause) => self.clock.advance(pause),
            }
        }
    }

    pub(crate) fn log(&self, tenant: TenantId) -> Log {
        Log::new(self.store.clone(), tenant)
    }

    pub(crate) async fn log_keys(&self) -> Vec<LogKey> {
        self.store.run(|tx| Box::pin(LogKeys::all(tx))).await.unwrap()
    }

    /// Returns the leaf hashes of all events.
    pub(crate) async fn leaves(&self, tenant: TenantId) -> Vec<Hash> {
        let all = self.store.run(move |tx| Box::pin(events::after(tx, tenant, None, usize::MAX, usize::MAX)));
        all.await.unwrap().into_iter().map(|(_, leaf)| leaf_hash(&leaf)).collect()
    }

    /// Returns the newest checkpoint, whose signature is checked.
    pub(crate) async fn head(&self, tenant: TenantId) -> Option<Checkpoint> {
        let note = self.log(tenant).checkpoint().await.ok()?;
        Some(self.open(&note).await)
    }

    pub(crate) async fn open(&self, note: &str) -> Checkpoint {
        let keys = self.log_keys().await;
        keys.iter().find_map(|key| Checkpoint::open(note, key.public.0).ok()).unwrap()
    }

    /// Checks every checkpoint that is kept against the definition of the tree.
    pub(crate) async fn checkpoints_are_right(&self, tenant: TenantId) -> usize {
        let kept =
            self.store.run(move |tx| Box::pin(checkpoints::after(tx, tenant, None, 100_000))).await.unwrap();
        let leaves = self.leaves(tenant).await;
        for kept in &kept {
            let head = self.open(&kept.note).await;
            assert_eq!(head.size, kept.head.size);
            assert_eq!(head.root, Tree::new(leaves[..head.size as usize].to_vec()).root(), "{}", head.size);
        }
        kept.len()
    }

    pub(crate) async fn export(&self, tenant: TenantId) -> Vec<u8> {
        self.export_of(tenant, None).await
    }

    /// Exports a time range, or the whole log.
    pub(crate) async fn export_of(&self, tenant: TenantId, range: Option<TimeRange>) -> Vec<u8> {
        let seals = self.store.run(|tx| Box::pin(LogKeys::seals(tx))).await.unwrap().unwrap();
        let export = Export::open(&self.store, self.clock.as_ref(), tenant).await.unwrap();
        let (mut export, mut out) = (export.with_seals(&seals).unwrap(), Vec::new());
        if let Some(range) = range {
            export = export.of_section(self.log(tenant).section(range).await.unwrap());
        }
        while let Some(part) = export.next().await.unwrap() {
            out.extend_from_slice(&part);
        }
        out
    }

    /// Returns the trust in the first log key alone.
    pub(crate) async fn trust(&self) -> Trust {
        let keys: Vec<PublicKey> = self.log_keys().await.iter().map(|key| key.public).collect();
        Trust { keys: Vec::new(), log_keys: vec![keys[0]] }
    }

    pub(crate) async fn verify(&self, export: &[u8]) -> Result<Report, String> {
        verify_with(export, &self.trust().await, Against::default()).map_err(|broken| broken.to_string())
    }

    /// Returns the raw rows of a kind.
    pub(crate) async fn rows(&self, tenant: TenantId, kind: Kind) -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = self.store.run(move |tx| {
            Box::pin(async move { tx.range_raw(Range::prefix(&row_key(tenant, kind, &[]))).await })
        });
        let rows: Vec<_> = rows.await.unwrap();
        rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }

    /// Does what somebody does who can write to the store.
    pub(crate) async fn overwrite(&self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let write = self.store.run(move |tx| {
            let (key, value) = (key.clone(), value.clone());
            Box::pin(async move {
                match value {
                    Some(value) => tx.set_raw(&key, &value),
                    None => tx.clear_raw(&key),
                }
            })
        });
        write.await.unwrap();
    }
}
