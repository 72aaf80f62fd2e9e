//! Which shards a node looks after, as the duty last saw it. Pure.

use std::collections::BTreeMap;

use aesp_cluster::{Held, Ownership};
use aesp_proto::{Epoch, ShardId};
use aesp_storage::SHARDS;

/// The shards whose tenants were all looked at once, and whose news are followed since.
#[derive(Debug, Default)]
pub(crate) struct Shards(BTreeMap<ShardId, Epoch>);

impl Shards {
    /// Takes in what the node holds now; returns the shards that it did not hold before, or not at this epoch.
    pub(crate) fn take(&mut self, ownership: &Ownership) -> Vec<ShardId> {
        let mut taken = Vec::new();
        for shard in (0..SHARDS).map(ShardId) {
            let seen = ownership.shard(shard);
            if seen.held != Held::Yes {
                self.0.remove(&shard);
            } else if self.0.insert(shard, seen.epoch) != Some(seen.epoch) {
                taken.push(shard);
            }
        }
        taken
    }

    /// Tells whether news of this shard are this node's.
    pub(crate) fn contains(&self, shard: ShardId) -> bool {
        self.0.contains_key(&shard)
    }

    /// Has all tenants of the shard looked at again, if it is still held.
    pub(crate) fn forget(&mut self, shard: ShardId) {
        self.0.remove(&shard);
    }

    /// Has all tenants of all shards looked at again.
    pub(crate) fn forget_all(&mut self) {
        self.0.clear();
    }
}
