use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aesp_proto::{Epoch, Incarnation, ShardId, TenantId};
use aesp_storage::{Engine, Kind, MemoryEngine, SHARDS, row_key, shard_of};
use futures::FutureExt;

/// Tenants whose rights are revoked.
pub(super) const TENANTS: u8 = 3;

/// What must hold, whatever happens.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) base: Arc<MemoryEngine>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// S1: one owner an epoch.
    owners: BTreeMap<(ShardId, Epoch), Incarnation>,
    /// R1: what a right must at least be, since a barrier returned.
    floors: BTreeMap<u8, u64>,
    /// D1: writes that were acknowledged, and those whose end nobody knows.
    written: BTreeMap<ShardId, Written>,
    tally: Tally,
}

#[derive(Clone, Copy, Default)]
struct Written {
    acknowledged: u64,
    open: u64,
}

/// What happened in a run, to see that something did.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) acts: u64,
    pub(super) uses: u64,
    pub(super) writes: u64,
    pub(super) barriers: u64,
    pub(super) notices: BTreeMap<&'static str, u64>,
}

impl Model {
    pub(super) fn new(base: Arc<MemoryEngine>) -> Self {
        Self { base, state: Arc::default() }
    }

    /// Reads the store as it is at this moment.
    pub(super) fn read(&self, key: &[u8]) -> Option<Vec<u8>> {
        let snapshot = self.base.snapshot().now_or_never().unwrap().unwrap();
        let value = snapshot.get(key).now_or_never().unwrap().unwrap();
        value.map(Vec::from)
    }

    pub(super) fn number(&self, key: &[u8]) -> u64 {
        self.read(key).map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()))
    }

    /// A node acts as the owner of a shard, now.
    pub(super) fn act(&self, node: Incarnation, shard: ShardId, epoch: Epoch) {
        let row = self.read(&row_key(TenantId::PLATFORM, Kind::SHARD, &shard.0.to_be_bytes()));
        if row.as_ref().is_some_and(|row| row.len() != 16) {
            // Damaged; nobody else can own it either, and the next look finds out.
            return;
        }
        let truth = [node.0.to_be_bytes(), epoch.0.to_be_bytes()].concat();
        assert_eq!(
            row,
            Some(truth),
            "S1: node {node} acts for shard {shard} since epoch {epoch}, the store has another owner"
        );
        let mut state = self.state.lock().unwrap();
        let owner = *state.owners.entry((shard, epoch)).or_insert(node);
        assert_eq!(owner, node, "S1: two owners of shard {shard} in epoch {epoch}");
        state.tally.acts += 1;
    }

    /// A node acts on a tenant's right, now.
    pub(super) fn use_right(&self, node: Incarnation, tenant: u8, version: u64) {
        let mut state = self.state.lock().unwrap();
        let floor = state.floors.get(&tenant).copied().unwrap_or_default();
        assert!(
            version >= floor,
            "R1: node {node} acts on right {version} of tenant {tenant}, revoked up to {floor}"
        );
        state.tally.uses += 1;
    }

    /// A barrier has returned.
    pub(super) fn revoked(&self, tenant: u8, version: u64) {
        let mut state = self.state.lock().unwrap();
        let floor = state.floors.entry(tenant).or_default();
        *floor = version.max(*floor);
        state.tally.barriers += 1;
    }

    /// Returns how many barriers have returned.
    pub(super) fn barriers(&self) -> u64 {
        self.state.lock().unwrap().tally.barriers
    }

    pub(super) fn begin_write(&self, shard: ShardId) {
        self.state.lock().unwrap().written.entry(shard).or_default().open += 1;
    }

    /// A write has ended: acknowledged, or certainly not made.
    pub(super) fn end_write(&self, shard: ShardId, acknowledged: bool) {
        let mut state = self.state.lock().unwrap();
        let written = state.written.entry(shard).or_default();
        written.open -= 1;
        written.acknowledged += u64::from(acknowledged);
        state.tally.writes += u64::from(acknowledged);
    }

    pub(super) fn noticed(&self, name: &'static str) {
        *self.state.lock().unwrap().tally.notices.entry(name).or_default() += 1;
    }

    /// D1: nothing that was acknowledged is lost, nothing was written twice. Returns what happened.
    pub(super) fn settle(&self) -> Tally {
        let state = self.state.lock().unwrap();
        for (shard, written) in &state.written {
            let count = self.number(&counter(*shard));
            let possible = written.acknowledged..=written.acknowledged + written.open;
            assert!(possible.contains(&count), "D1: shard {shard} counts {count}, not {possible:?}");
        }
        state.tally.clone()
    }
}

/// A tenant's id.
pub(super) fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number + 1; 16])
}

/// Where a tenant's right is.
pub(super) fn right(number: u8) -> Vec<u8> {
    row_key(tenant(number), Kind::CONFIG, b"right")
}

/// Where the writes of a shard are counted.
pub(super) fn counter(shard: ShardId) -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::CONFIG, &shard.0.to_be_bytes())
}

/// An entity of each shard.
pub(super) fn entities() -> Vec<[u8; 16]> {
    let mut out = vec![None; usize::from(SHARDS)];
    for entity in (0_u128..).map(u128::to_be_bytes) {
        out[usize::from(shard_of(&entity).0)].get_or_insert(entity);
        if out.iter().all(Option::is_some) {
            break;
        }
    }
    out.into_iter().flatten().collect()
}
