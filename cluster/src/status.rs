use aesp_proto::Incarnation;

use crate::{Load, Locality, MemberState};

/// A node as this one sees it: from its row, and from how its row has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name; empty if its row is damaged.
    pub name: String,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// What it is ready for.
    pub state: MemberState,
    /// How many shards it owns.
    pub shards: usize,
    /// For how long this node has seen no renewal of it, in milliseconds.
    pub lease_age_ms: u64,
    /// The length of its lease, in milliseconds.
    pub lease_ms: u64,
    /// How many changes of rights were committed that it is not known to have applied.
    pub behind: u64,
    /// How busy it said it was.
    pub load: Load,
    /// The release that it runs.
    pub version: String,
    /// Where peers find it; empty for a node that is alone.
    pub endpoint: String,
    /// Where it said that it runs.
    pub locality: Locality,
    /// How far its clock is ahead of the cluster's median (negative: behind), in milliseconds; none before its second renewal.
    pub skew_ms: Option<i64>,
    /// Whether gossip holds it for alive; none without gossip, and for this node.
    pub alive: Option<bool>,
    /// Whether its row can't be read.
    pub damaged: bool,
    /// The protocol of the link between it and this node; none without a link.
    pub protocol: Option<u32>,
}
