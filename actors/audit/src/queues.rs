use std::sync::Arc;

use aesp_proto::TenantId;
use aesp_storage::shard_of;

use crate::{
    Error,
    queue::{Limits, Queue},
    unit::Unit,
};

/// The queues before the writers. A tenant's units always go to the same writer, so that they keep their order and its log
/// has one chain; many tenants share the writers, which work side by side and share the store's syncs.
pub(crate) struct Queues(Box<[Arc<Queue>]>);

impl Queues {
    pub(crate) fn new(writers: usize, limits: Limits) -> Self {
        Self((0..writers.max(1)).map(|_| Arc::new(Queue::new(limits))).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.0.iter()
    }

    /// Appends a unit to its tenant's lane.
    pub(crate) fn push(&self, tenant: TenantId, unit: Arc<dyn Unit>) -> Result<(), Error> {
        self.0[usize::from(shard_of(tenant.as_bytes()).0) % self.0.len()].push(tenant, unit)
    }

    /// Takes no more units; the writers end after the last that waits.
    pub(crate) fn close(&self) {
        self.iter().for_each(|queue| queue.close());
    }

    /// Returns how many units wait.
    pub(crate) fn waiting(&self) -> usize {
        self.iter().map(|queue| queue.waiting()).sum()
    }
}
