use std::{collections::BTreeMap, time::Duration};

use aesp_proto::Incarnation;
use aesp_storage::{Kind, Row};
use serde::{Deserialize, Serialize};

use crate::counts::{Counts, Each, Limit};

/// The most that one node may hold of a tenant's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ceiling {
    /// Of the levels.
    pub(crate) held: Counts,
    /// No call may start that may take longer.
    pub(crate) longest: Duration,
}

impl Ceiling {
    pub(crate) fn is_zero(&self) -> bool {
        Limit::LEVELS.iter().all(|limit| self.held[*limit] == 0)
    }

    pub(crate) fn min(self, other: Self) -> Self {
        let held = Each::new(|limit| self.held[limit].min(other.held[limit]));
        Self { held, longest: self.longest.min(other.longest) }
    }

    pub(crate) fn max(self, other: Self) -> Self {
        let held = Each::new(|limit| self.held[limit].max(other.held[limit]));
        Self { held, longest: self.longest.max(other.longest) }
    }
}

/// The most that any node may hold. Durable before a node hears of it, so that a later home knows what it can't ask for.
pub(crate) type Ceilings = BTreeMap<Incarnation, Ceiling>;

/// The ceilings as they are stored, one row a tenant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CreditsRow {
    nodes: Vec<NodeRow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NodeRow {
    node: Incarnation,
    sessions: u32,
    calls: u32,
    runtimes: u32,
    longest_ms: u64,
}

impl Row for CreditsRow {
    const KIND: Kind = Kind::CREDITS;
    // Numbers, and readable also when the tenant's keys are gone.
    const SEALED: bool = false;
    type Key = ();
}

impl From<&Ceilings> for CreditsRow {
    fn from(ceilings: &Ceilings) -> Self {
        let row = |(node, ceiling): (&Incarnation, &Ceiling)| NodeRow {
            node: *node,
            sessions: ceiling.held[Limit::Sessions],
            calls: ceiling.held[Limit::Calls],
            runtimes: ceiling.held[Limit::Runtimes],
            longest_ms: u64::try_from(ceiling.longest.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
        };
        Self { nodes: ceilings.iter().map(row).collect() }
    }
}

impl From<CreditsRow> for Ceilings {
    fn from(row: CreditsRow) -> Self {
        let ceiling = |row: NodeRow| {
            let held = Each::new(|limit| match limit {
                Limit::Sessions => row.sessions,
                Limit::Calls => row.calls,
                Limit::Runtimes => row.runtimes,
                Limit::Starts => 0,
            });
            (row.node, Ceiling { held, longest: Duration::from_millis(row.longest_ms) })
        };
        row.nodes.into_iter().map(ceiling).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_they_were() {
        let mut ceiling = Ceiling { longest: Duration::from_micros(29_999_001), ..Ceiling::default() };
        ceiling.held[Limit::Calls] = 4;
        let ceilings = Ceilings::from([(Incarnation(7), ceiling)]);
        let text = serde_json::to_string(&CreditsRow::from(&ceilings)).unwrap();
        let pinned = r#"{"nodes":[{"node":7,"sessions":0,"calls":4,"runtimes":0,"longest_ms":30000}]}"#;
        assert_eq!(text, pinned);
        let read = Ceilings::from(serde_json::from_str::<CreditsRow>(pinned).unwrap());
        assert_eq!(read[&Incarnation(7)].held, ceiling.held);
        assert!(read[&Incarnation(7)].longest >= ceiling.longest);
    }
}
