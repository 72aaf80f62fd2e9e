use aesp_proto::Incarnation;

/// Something about the cluster that an operator should know of, seen or done by this node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// This node has joined.
    NodeJoined {
        /// Its incarnation.
        node: Incarnation,
        /// Its name.
        name: String,
    },
    /// This node has left, with nothing in its hands.
    NodeLeft {
        /// Its incarnation.
        node: Incarnation,
        /// Its name.
        name: String,
    },
    /// This node declared another one dead, whose lease had been silent for too long.
    NodeDied {
        /// The dead incarnation.
        node: Incarnation,
        /// Its name; empty if its row was damaged.
        name: String,
        /// This node.
        by: Incarnation,
    },
    /// This node took shards whose owner was dead, or that had none.
    ShardsTaken {
        /// The dead owner; none for shards that nobody owned.
        from: Option<Incarnation>,
        /// How many.
        count: usize,
    },
    /// This node handed shards over.
    ShardsHandedOver {
        /// The successor; none when they were given up.
        to: Option<Incarnation>,
        /// How many.
        count: usize,
    },
    /// This node's clock is too far from the cluster's median: it serves nothing until it is right.
    ClockSkewed {
        /// How far it is ahead (negative: behind), in milliseconds.
        skew_ms: i64,
    },
    /// This node's clock is right again.
    ClockRight {
        /// How far it is ahead (negative: behind), in milliseconds.
        skew_ms: i64,
    },
    /// This node could not renew its lease in time and serves nothing.
    LeaseLost {
        /// Whether it is over for ever: this incarnation was declared dead.
        for_ever: bool,
    },
    /// This node renewed its lease after it had lost it.
    LeaseRegained,
    /// A row of the cluster is damaged: nobody acts on it.
    RowDamaged {
        /// Which row, for example `lease of node 7` or `shard 12`.
        what: String,
    },
    /// Another node of the same name lives, or something else than this node writes this node's row.
    IdentityContested {
        /// The name.
        name: String,
        /// The other incarnation, or this one.
        node: Incarnation,
    },
    /// This node can't join: it would be alone with a store that a cluster uses, or a lone node uses the store.
    StoreContested {
        /// The other node's name.
        name: String,
        /// The other node.
        node: Incarnation,
    },
    /// A task of the cluster panicked: this incarnation ends, and the node has to start again.
    TaskPanicked,
    /// A node renews its lease but no link to it comes about: its network, or it belongs to another cluster that uses the same
    /// store.
    NodeUnreachable {
        /// The node.
        node: Incarnation,
        /// Its name.
        name: String,
    },
}

impl Notice {
    /// Returns its name, for records and labels.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeJoined { .. } => "node_joined",
            Self::NodeLeft { .. } => "node_left",
            Self::NodeDied { .. } => "node_died",
            Self::ShardsTaken { .. } => "shards_taken",
            Self::ShardsHandedOver { .. } => "shards_handed_over",
            Self::ClockSkewed { .. } => "clock_skewed",
            Self::ClockRight { .. } => "clock_right",
            Self::LeaseLost { .. } => "lease_lost",
            Self::LeaseRegained => "lease_regained",
            Self::RowDamaged { .. } => "row_damaged",
            Self::IdentityContested { .. } => "identity_contested",
            Self::StoreContested { .. } => "store_contested",
            Self::TaskPanicked => "task_panicked",
            Self::NodeUnreachable { .. } => "node_unreachable",
        }
    }
}

/// Hears of notices, for the audit log.
pub trait ObserveNotices: Send + Sync + 'static {
    /// Takes one. Must not wait.
    fn noticed(&self, notice: Notice);
}
