use aesp_proto::{ErrorCode, Incarnation, ShardId};

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

/// Why a node can't join its cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Stop the other node, or give this one another name and certificate.
    #[error("a node named {name} lives already, as incarnation {node}; give this node a name of its own")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        node: Incarnation,
    },
    /// Configure this node's part in the cluster, or a store of its own.
    #[error("node {name} uses this store; configure [cluster] on this node, or give it a store of its own")]
    NotAlone {
        /// A living node.
        name: String,
    },
    /// Stop the lone node, or configure its part in the cluster.
    #[error("node {name} uses this store alone; stop it, or configure [cluster] there")]
    LoneNodeLives {
        /// The lone node.
        name: String,
    },
    /// Set the clock.
    #[error("this node's clock is {skew_ms} ms off the cluster's; synchronise it and start again")]
    ClockSkewed {
        /// How far it is ahead (negative: behind), in milliseconds.
        skew_ms: i64,
    },
    /// Look at the store; nothing was joined.
    #[error("the store can't be used to join the cluster")]
    Store(#[from] aesp_storage::Error),
}

impl JoinError {
    /// Returns the code that stands for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NameTaken { .. } | Self::NotAlone { .. } | Self::LoneNodeLives { .. } => {
                ErrorCode::StateConflict
            }
            Self::ClockSkewed { .. } => ErrorCode::ServiceUnavailable,
            Self::Store(error) => error.code(),
        }
    }

    /// Tells whether the same node may join later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotAlone { .. } => false,
            Self::NameTaken { .. } | Self::LoneNodeLives { .. } | Self::ClockSkewed { .. } => true,
            Self::Store(error) => error.is_retryable(),
        }
    }
}

/// Why it can't be said that a change holds everywhere. The change is committed all the same.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// Call the barrier again when the store is back.
    #[error("the store can't say which nodes live")]
    Store(#[from] aesp_storage::Error),
    /// Ask another node: this one is ending.
    #[error("this node has left its cluster")]
    Left,
}

impl BarrierError {
    /// Returns the code that a client hears.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::ServiceUnavailable
    }

    /// Tells whether the barrier may be called again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}

impl From<BarrierError> for aesp_proto::Error {
    fn from(error: BarrierError) -> Self {
        Self::new(error.code(), "the change is made, but it can't be said yet that it holds on every node")
            .remedy("repeat the request")
            .because(error)
    }
}

/// Why a node can't be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Look at the list of nodes.
    #[error("no node has incarnation {0} now")]
    Unknown(Incarnation),
    /// Try again when the store is back.
    #[error("the store can't be used")]
    Store(#[from] aesp_storage::Error),
}

impl RemoveError {
    /// Returns the code that a client hears.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::NotFound,
            Self::Store(error) => error.code(),
        }
    }

    /// Tells whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Store(error) => error.is_retryable(),
        }
    }
}

impl From<RemoveError> for aesp_proto::Error {
    fn from(error: RemoveError) -> Self {
        match error {
            RemoveError::Unknown(node) => {
                Self::new(ErrorCode::NotFound, format!("no node has incarnation {node} now"))
                    .remedy("list the nodes with `aesp cluster status`")
            }
            RemoveError::Store(error) => error.into(),
        }
    }
}
