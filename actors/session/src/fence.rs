use std::sync::Arc;

use aesp_proto::{Epoch, SessionId, ShardId};
use aesp_storage::{Transaction, shard_of};

use crate::Error;

/// The shards that this node owns, each with its epoch.
#[derive(Clone, Debug)]
pub struct Shards(Arc<[Epoch]>);

impl Shards {
    /// Takes the epochs of all shards, in their order, as `Transaction::claim_shards` returns them.
    #[must_use]
    pub fn all(epochs: Vec<Epoch>) -> Self {
        Self(epochs.into())
    }

    /// Returns the fence of the session's shard; nothing if this node does not own it.
    #[must_use]
    pub fn fence(&self, session: SessionId) -> Option<Fence> {
        let shard = shard_of(session.as_bytes());
        self.0.get(usize::from(shard.0)).map(|epoch| Fence { shard, epoch: *epoch })
    }
}

/// Proof of what a node may write: the shard, and the epoch since which it is this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    shard: ShardId,
    epoch: Epoch,
}

impl Fence {
    /// Makes the transaction fail if the shard has a newer owner, now or at the commit.
    ///
    /// # Errors
    /// [`Error::Store`] with `Fenced`.
    pub async fn check(&self, tx: &Transaction) -> Result<(), Error> {
        Ok(tx.fence(self.shard, self.epoch).await?)
    }
}
