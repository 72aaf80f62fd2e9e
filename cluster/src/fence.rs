use aesp_proto::{Epoch, ShardId};
use aesp_storage::Transaction;

/// Proof of what a node may write: the shard, and the epoch since which it is this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
}

impl Fence {
    /// Returns the shard.
    #[must_use]
    pub fn shard(self) -> ShardId {
        self.shard
    }

    /// Returns the epoch.
    #[must_use]
    pub fn epoch(self) -> Epoch {
        self.epoch
    }

    /// Makes the transaction fail if the shard has a newer owner, now or at the commit.
    ///
    /// # Errors
    /// [`aesp_storage::Error::Fenced`].
    pub async fn check(self, tx: &Transaction) -> Result<(), aesp_storage::Error> {
        tx.fence(self.shard, self.epoch).await
    }
}
