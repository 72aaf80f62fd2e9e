use std::{collections::BTreeSet, time::Duration};

use aesp_proto::{ShardId, TenantId};
use async_trait::async_trait;

use crate::Load;

/// Whose rights changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Perhaps anybody's: those of the platform, or more than the log still knows.
    Everything,
    /// Those within these tenants.
    Tenants(BTreeSet<TenantId>),
}

/// What the cluster asks of its node. Calls for one shard come one after the other, but for [`Duties::lose`], which may come
/// while another one runs and ends what that one does.
#[async_trait]
pub trait Duties: Send + Sync + 'static {
    /// Makes changed rights hold here: when it returns, nothing begins on an old right. Called again until it succeeds; as long
    /// as it does not, the node's lease is not extended.
    async fn apply(&self, changed: &Changed) -> Result<(), aesp_proto::Error>;

    /// Takes up a shard, which [`Ownership`](crate::Ownership) shows as held already.
    async fn arrive(&self, shard: ShardId);

    /// Ends what runs in a shard, which [`Ownership`](crate::Ownership) shows as leaving; returns when nothing does any more, at
    /// the latest after `grace`.
    async fn hand_over(&self, shard: ShardId, grace: Duration);

    /// Cancels at once what runs in these shards: they were taken from this node, or the lease is lost and with it all of them.
    /// Must not wait. May be called more than once for a shard.
    fn lose(&self, shards: &[ShardId]);

    /// Tells how busy the node is. Must not wait.
    fn load(&self) -> Load;
}
