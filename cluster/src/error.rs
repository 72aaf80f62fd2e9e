use aesp_proto::{Incarnation, ShardId};

/// What keeps a node from acting as owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another node owns the shard, or nobody; ask there.
    #[error("shard {shard} is not this node's")]
    NotOwner {
        /// The shard.
        shard: ShardId,
        /// Its owner as this node last read it.
        owner: Option<Incarnation>,
    },
}
