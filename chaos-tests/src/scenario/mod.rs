//! What is broken, when, and on which topology.

mod catalogue;
mod field;
mod inside;
mod plays;

use std::time::Duration;

pub(crate) use self::{
    catalogue::{ALL, Kind, Nodes, Scenario, find},
    field::{Fault, Field},
    plays::play,
};
use crate::{
    topology::{self, Shape},
    workload::Load,
};

/// The nodes' lease.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
const SESSIONS: usize = 12;
const CALLERS: usize = 2;
const PACE: Duration = Duration::from_millis(40);
/// Room for the store as it is made, and for some seconds of calls.
const DISK_MIB: u32 = 64;

impl Scenario {
    /// Tells why it can't be played here, if so.
    pub(crate) fn unmet(&self, nodes: usize) -> Option<String> {
        if self.nodes == Nodes::Three && nodes < 3 {
            return Some("it needs three nodes: --nodes 3".into());
        }
        match self.kind {
            Kind::ClockSteps | Kind::ClockSkew => topology::no_clocks(),
            Kind::DiskFull => topology::no_own_store().or_else(topology::no_disk),
            Kind::DiskErrors => topology::no_own_store().or_else(topology::no_failing_syncs),
            Kind::PartitionOne | Kind::PartitionAll | Kind::PartitionOneWay => {
                topology::no_own_store().or_else(topology::no_namespaces)
            }
            Kind::BadLinks => {
                topology::no_own_store().or_else(topology::no_namespaces).or_else(topology::no_filters)
            }
            Kind::StoreUnavailable | Kind::StoreSlow | Kind::CommitUnknown | Kind::ActorCrashes => {
                topology::no_orders()
            }
            _ => None,
        }
    }

    /// Returns what it is played on.
    pub(crate) fn shape(&self, nodes: usize, storm: usize) -> Shape {
        let others = move |node: usize| {
            (0..nodes.max(2)).map(move |n| n % nodes).filter(move |n| nodes == 1 || *n != node)
        };
        let mixed = self.kind == Kind::Mixture;
        let own_store = topology::no_own_store().is_none();
        let network = match self.kind {
            Kind::PartitionOne | Kind::PartitionAll | Kind::PartitionOneWay | Kind::BadLinks => true,
            Kind::Mixture => nodes > 1 && own_store && topology::no_namespaces().is_none(),
            _ => false,
        };
        Shape {
            nodes,
            workers: match self.kind {
                Kind::KillRuntimesNode => vec![0, 0],
                Kind::KillOwner | Kind::KillGateway => others(0).collect(),
                _ => (0..nodes.max(2)).map(|n| n % nodes).collect(),
            },
            storm: if self.kind == Kind::RuntimeStorm { storm } else { 0 },
            clocks: matches!(self.kind, Kind::ClockSteps | Kind::ClockSkew)
                || mixed && topology::no_clocks().is_none(),
            disk_mib: (self.kind == Kind::DiskFull).then_some(DISK_MIB),
            faulty: matches!(
                self.kind,
                Kind::StoreUnavailable | Kind::StoreSlow | Kind::CommitUnknown | Kind::ActorCrashes
            ) || mixed && topology::no_orders().is_none(),
            failing_syncs: self.kind == Kind::DiskErrors
                || mixed && own_store && topology::no_failing_syncs().is_none(),
            network,
            filters: network && (self.kind == Kind::BadLinks || mixed && topology::no_filters().is_none()),
            lease: LEASE,
        }
    }

    /// Returns what goes on meanwhile.
    pub(crate) fn load(&self, nodes: usize) -> Load {
        let all: Vec<usize> = (0..nodes).collect();
        let but_first: Vec<usize> = if nodes == 1 { vec![0] } else { (1..nodes).collect() };
        let next: Vec<usize> = (0..nodes).map(|node| (node + 1) % nodes).collect();
        let (born, called) = match self.kind {
            Kind::KillOwner => (vec![0], but_first),
            Kind::KillGateway => (but_first, vec![0]),
            Kind::KillRuntimesNode => (but_first.clone(), but_first),
            Kind::PartitionOne | Kind::PartitionAll | Kind::PartitionOneWay | Kind::BadLinks => (all, next),
            // Half of the calls come in at the node that owns their session, half at another.
            _ => (all.clone(), [next, all].concat()),
        };
        Load { sessions: SESSIONS, callers: CALLERS, pace: PACE, born, called }
    }
}
