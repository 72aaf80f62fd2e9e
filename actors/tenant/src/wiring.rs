use std::{collections::BTreeSet, sync::Arc};

use aesp_cluster::Ownership;
use aesp_proto::{Incarnation, TenantId};
use aesp_storage::Store;
use aesp_supervision::Supervisor;
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::Metrics;

/// What the limits need of the node.
#[derive(Clone)]
pub struct Wiring {
    /// Where ceilings are kept.
    pub store: Store,
    /// Says whose a tenant's home is.
    pub shards: Ownership,
    /// Says who is not dead, as of the moment at which `shards` was seen, or later.
    pub living: Living,
    /// Keeps the duty alive.
    pub supervisor: Supervisor,
    /// Where they count.
    pub metrics: Metrics,
}

/// Tells which nodes are not dead.
pub type Living = Arc<dyn Fn() -> BTreeSet<Incarnation> + Send + Sync>;

/// Carries messages to the limits of other nodes. Nothing here waits, and nothing comes back on the caller's own stack.
pub trait Peers: Send + Sync + 'static {
    /// Sends something for [`crate::Tenants::told`] of the peer: at most once.
    fn tell(&self, to: Incarnation, payload: Bytes);

    /// Asks [`crate::Tenants::asked`] of the peer; none if it can't be reached.
    fn ask(&self, to: Incarnation, payload: Bytes) -> BoxFuture<'static, Option<Bytes>>;
}

/// Counts the sessions of a tenant that have not ended, over all shards.
#[async_trait]
pub trait CountSessions: Send + Sync + 'static {
    /// Counts those that were there when it was called and are there still, at least.
    ///
    /// # Errors
    /// The store's.
    async fn count(&self, tenant: TenantId) -> Result<u64, aesp_storage::Error>;
}
