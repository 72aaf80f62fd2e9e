/// How many nodes a scenario needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// One or three.
    Any,
    /// Three.
    Three,
}

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    KillNode,
    KillRuntime,
    FreezeNode,
    FreezeRuntime,
    RollingRestart,
    RuntimeStorm,
    ClockSteps,
    DiskFull,
    DiskErrors,
    StoreUnavailable,
    StoreSlow,
    CommitUnknown,
    ActorCrashes,
    KillOwner,
    KillGateway,
    KillRuntimesNode,
    KillTwo,
    PartitionOne,
    PartitionAll,
    PartitionOneWay,
    BadLinks,
    ClockSkew,
    Mixture,
}

/// A scenario as people choose it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    pub(crate) nodes: Nodes,
    /// Whether it is among the few that every change must pass.
    pub(crate) short: bool,
}

const fn scenario(
    name: &'static str,
    about: &'static str,
    kind: Kind,
    nodes: Nodes,
    short: bool,
) -> Scenario {
    Scenario { name, about, kind, nodes, short }
}

/// All of them, in the order in which they are played.
pub(crate) const ALL: [Scenario; 23] = [
    scenario("kill-node", "kill -9 of a node under load, and its restart", Kind::KillNode, Nodes::Any, true),
    scenario(
        "kill-runtime",
        "kill -9 of a Runtime under load, and its restart",
        Kind::KillRuntime,
        Nodes::Any,
        true,
    ),
    scenario(
        "freeze-node",
        "a node stopped (SIGSTOP) for longer than its lease, then continued: it must not act as if nothing had been",
        Kind::FreezeNode,
        Nodes::Any,
        true,
    ),
    scenario(
        "freeze-runtime",
        "a Runtime stopped (SIGSTOP) and continued",
        Kind::FreezeRuntime,
        Nodes::Any,
        false,
    ),
    scenario(
        "rolling-restart",
        "one node after the other ends in order and comes back, under load",
        Kind::RollingRestart,
        Nodes::Any,
        false,
    ),
    scenario(
        "runtime-storm",
        "the node of a thousand Runtimes is killed; they all reconnect at once",
        Kind::RuntimeStorm,
        Nodes::Any,
        false,
    ),
    scenario(
        "clock-steps",
        "the wall clock of a node jumps forth and back by minutes and by an hour",
        Kind::ClockSteps,
        Nodes::Any,
        false,
    ),
    scenario("disk-full", "the store's disk is full for seconds", Kind::DiskFull, Nodes::Any, false),
    scenario(
        "disk-errors",
        "the syncs of a node fail with EIO for seconds: nothing is acknowledged meanwhile",
        Kind::DiskErrors,
        Nodes::Any,
        false,
    ),
    scenario(
        "store-unavailable",
        "the store of one node or of all refuses everything, or answers nothing, for less or more than a lease",
        Kind::StoreUnavailable,
        Nodes::Any,
        false,
    ),
    scenario(
        "store-slow",
        "the store of one node or of all takes its time for every read and commit",
        Kind::StoreSlow,
        Nodes::Any,
        false,
    ),
    scenario(
        "commit-unknown",
        "commits end without a word on whether they landed: some did, some did not, some do later",
        Kind::CommitUnknown,
        Nodes::Any,
        true,
    ),
    scenario(
        "actor-crashes",
        "actors of sessions and Runtimes panic now and then; that of a tenant in a loop, until its node gives up",
        Kind::ActorCrashes,
        Nodes::Any,
        false,
    ),
    scenario("kill-owner", "kill -9 of the node that owns the sessions", Kind::KillOwner, Nodes::Three, true),
    scenario("kill-gateway", "kill -9 of the node that agents call", Kind::KillGateway, Nodes::Three, false),
    scenario(
        "kill-runtimes-node",
        "kill -9 of the node that the Runtimes are connected to",
        Kind::KillRuntimesNode,
        Nodes::Three,
        false,
    ),
    scenario("kill-two", "kill -9 of two nodes of three at once", Kind::KillTwo, Nodes::Three, false),
    scenario(
        "partition-one",
        "one node can't reach its peers, nor they it; clients and store still can",
        Kind::PartitionOne,
        Nodes::Three,
        false,
    ),
    scenario("partition-all", "no node reaches another", Kind::PartitionAll, Nodes::Three, false),
    scenario(
        "partition-one-way",
        "what one node sends to its peers is lost, what they send arrives",
        Kind::PartitionOneWay,
        Nodes::Three,
        false,
    ),
    scenario(
        "bad-links",
        "what arrives at a node is up to 25 ms late, out of order, and 2 % is lost",
        Kind::BadLinks,
        Nodes::Three,
        false,
    ),
    scenario(
        "clock-skew",
        "the wall clock of one node is off by seconds: it must refuse to serve",
        Kind::ClockSkew,
        Nodes::Three,
        false,
    ),
    scenario("mixture", "anything at any time", Kind::Mixture, Nodes::Any, true),
];

/// Finds a scenario by its name.
pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
