use std::time::Duration;

use aesp_proto::Revision;

use crate::{
    Quotas,
    counts::{Counts, Each},
    meter::Level,
};

/// One life of a tenant's home: the epoch of the tenant's shard, and a number for each home that its owner begins. Later ones
/// are greater. The least is that of a node that knows none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Term {
    pub(crate) epoch: u64,
    pub(crate) instance: u64,
}

/// What a home and a holder of its credits tell each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Message {
    /// To the home.
    Report(Report),
    /// To a holder.
    Collect(Collect),
    /// To a holder.
    Grant(Grant),
}

/// What a node holds, and what it wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Report {
    /// The home that it is for.
    pub(crate) term: Term,
    /// Grows with every report, and with whatever else makes earlier grants void.
    pub(crate) number: u64,
    /// The newest quotas that the node knows.
    pub(crate) quotas: Newest,
    /// Of the levels.
    pub(crate) levels: Each<Level>,
    /// How many wait.
    pub(crate) wanted: Counts,
    /// Which wishes these are: another number for those who wait after nobody did.
    pub(crate) wishes: Counts,
    /// Starts that the node no longer has.
    pub(crate) returned: u32,
    /// Sessions that the node has stored since it began.
    pub(crate) stored: u64,
    /// The longest call that waits.
    pub(crate) longest: Duration,
    /// The longest call that may start there.
    pub(crate) allowed: Duration,
    /// The newest collection that the node has followed.
    pub(crate) round: u64,
}

/// Quotas as of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) revision: Revision,
    pub(crate) quotas: Quotas,
}

/// Asks for a report under this term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Collect {
    pub(crate) term: Term,
    /// What the node must not keep unless it uses it.
    pub(crate) recalled: Each<bool>,
    /// Grows with every collection of a home.
    pub(crate) round: u64,
}

/// The answer to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) term: Term,
    /// That of the report.
    pub(crate) number: u64,
    /// By how much the limits grow; of the starts, how many there are.
    pub(crate) raised: Counts,
    /// Calls up to this long may start.
    pub(crate) longest: Duration,
    pub(crate) verdicts: Each<Verdict>,
    /// When the next call may start.
    pub(crate) retry_after: Duration,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not decided, or not wanted.
    #[default]
    Open,
    /// As much as was wanted.
    Granted,
    /// The cluster is at its limit.
    AtLimit,
    /// Nodes that may hold idle credits did not answer.
    Unknown,
}
