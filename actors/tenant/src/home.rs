//! The decisions of a tenant's home: who holds which share of the quotas. Without store, clock or chance.

use std::collections::BTreeMap;

use crate::gate::Lease;

/// A node's incarnation, as the home knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A node wants to spend, or the quotas changed; carries the whole of the quotas.
    Asked { node: Node, whole: Lease },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The node may spend this from now on.
    Grant { node: Node, lease: Lease },
    /// Nothing is left for the node.
    Refuse { node: Node },
}

/// The books of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Home {
    leases: BTreeMap<Node, Lease>,
}

impl Home {
    /// Applies one event. The whole goes to one node at a time, so that the shares never add up to more than the quota; an
    /// older revision than the one granted changes nothing.
    pub(crate) fn step(&mut self, event: Event) -> Effect {
        let Event::Asked { node, whole } = event;
        if self.leases.keys().any(|holder| *holder != node) {
            return Effect::Refuse { node };
        }
        let lease = self.leases.entry(node).or_insert(whole);
        if whole.revision > lease.revision {
            *lease = whole;
        }
        Effect::Grant { node, lease: *lease }
    }
}

#[cfg(test)]
mod tests {
    use aesp_proto::Revision;
    use proptest::prelude::*;

    use super::*;
    use crate::Quotas;

    proptest! {
        #[test]
        fn shares_never_add_up_to_more_than_the_quota(
            steps in proptest::collection::vec((0_u64..3, 0_u64..10, 1_u32..50), 1..60),
        ) {
            let mut home = Home::default();
            let mut newest: Option<Lease> = None;
            for (node, revision, sessions) in steps {
                let share = Quotas { sessions, ..Quotas::default() };
                let whole = Lease { revision: Revision(revision), share };
                let effect = home.step(Event::Asked { node: Node(node), whole });
                if let Effect::Grant { lease, .. } = effect {
                    if newest.is_none_or(|held| held.revision < whole.revision) {
                        newest = Some(whole);
                    }
                    prop_assert_eq!(Some(lease), newest, "the newest revision is granted");
                }
                prop_assert!(home.leases.len() <= 1, "the whole is held once");
            }
        }
    }
}
