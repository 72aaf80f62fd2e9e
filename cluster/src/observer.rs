use std::{collections::BTreeMap, time::Duration};

use aesp_proto::Incarnation;
use bytes::Bytes;

/// The longest lease that a node may have. A node whose row can't be read counts as having this one.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(60);

/// Judges from outside whether nodes still renew their leases, by the observer's own steady clock. Whatever it says must still
/// be committed by a transaction that finds the same row.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    nodes: BTreeMap<Incarnation, Seen>,
}

#[derive(Debug)]
struct Seen {
    bytes: Bytes,
    /// When these bytes were seen first, or when the observer began anew.
    since: Duration,
    /// When these bytes were seen first.
    first: Duration,
    lease: Duration,
    /// Renewals that were seen.
    renewals: u32,
}

impl Observer {
    /// Notes what a look that *ended* at `now` has seen of a node. `lease` is none if the row can't be read. Returns whether
    /// the node has renewed its lease since the last look.
    pub(crate) fn look(
        &mut self,
        node: Incarnation,
        bytes: &Bytes,
        lease: Option<Duration>,
        now: Duration,
    ) -> bool {
        let lease = lease.map(|lease| lease.min(LONGEST_LEASE));
        match self.nodes.get_mut(&node) {
            None => {
                let lease = lease.unwrap_or(LONGEST_LEASE);
                let seen = Seen { bytes: bytes.clone(), since: now, first: now, lease, renewals: 0 };
                self.nodes.insert(node, seen);
                false
            }
            Some(seen) if seen.bytes == *bytes => false,
            Some(seen) => {
                // The lease that the node counts with is that of any row which it wrote: the longest is the safe one.
                let lease = lease.unwrap_or(seen.lease).max(seen.lease);
                let renewals = seen.renewals.saturating_add(1);
                *seen = Seen { bytes: bytes.clone(), since: now, first: now, lease, renewals };
                true
            }
        }
    }

    /// Forgets nodes that have no row any more.
    pub(crate) fn retain(&mut self, lives: impl Fn(Incarnation) -> bool) {
        self.nodes.retain(|node, _| lives(*node));
    }

    /// Begins anew: the observer itself was late, so that others may have been kept from renewing by the same cause.
    pub(crate) fn restart(&mut self, now: Duration) {
        for seen in self.nodes.values_mut() {
            seen.since = now;
        }
    }

    /// Returns the nodes that have been silent for 1.25 of their leases, each with the row that it was seen with.
    pub(crate) fn silent(&self, now: Duration) -> Vec<(Incarnation, Bytes)> {
        let silent = |seen: &Seen| now.saturating_sub(seen.since) >= seen.lease + seen.lease / 4;
        let nodes = self.nodes.iter().filter(|(_, seen)| silent(seen));
        nodes.map(|(node, seen)| (*node, seen.bytes.clone())).collect()
    }

    /// Tells whether a node renews its lease before this observer's eyes. Once may have been its last act.
    pub(crate) fn lives(&self, node: Incarnation) -> bool {
        self.nodes.get(&node).is_some_and(|seen| seen.renewals > 1)
    }

    /// Returns for how long a node has been seen without a renewal.
    pub(crate) fn age(&self, node: Incarnation, now: Duration) -> Option<Duration> {
        self.nodes.get(&node).map(|seen| now.saturating_sub(seen.first))
    }

    /// Tells whether a node's lease must be over by what was seen.
    pub(crate) fn is_overdue(&self, node: Incarnation, now: Duration) -> bool {
        self.nodes.get(&node).is_some_and(|seen| now.saturating_sub(seen.first) >= seen.lease)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(2);
    const NODE: Incarnation = Incarnation(7);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn silence_counts_from_the_first_sight() {
        let mut observer = Observer::default();
        let row = Bytes::from_static(b"1");
        observer.look(NODE, &row, Some(LEASE), at(10_000));
        observer.look(NODE, &row, Some(LEASE), at(12_499));
        assert!(observer.silent(at(12_499)).is_empty() && !observer.lives(NODE));
        assert_eq!(observer.silent(at(12_500)), [(NODE, row)]);
        assert!(observer.look(NODE, &Bytes::from_static(b"2"), Some(LEASE), at(12_500)));
        assert!(
            observer.silent(at(14_000)).is_empty() && !observer.lives(NODE),
            "it may have been the last one"
        );
        assert!(
            observer.look(NODE, &Bytes::from_static(b"3"), Some(LEASE), at(14_000)) && observer.lives(NODE)
        );
    }

    #[test]
    fn an_observer_that_was_late_begins_anew() {
        let mut observer = Observer::default();
        observer.look(NODE, &Bytes::new(), Some(LEASE), at(0));
        observer.restart(at(60_000));
        assert!(observer.silent(at(62_499)).is_empty());
        assert_eq!(observer.age(NODE, at(62_499)), Some(at(62_499)), "the age is told as it is");
        assert_eq!(observer.silent(at(62_500)).len(), 1);
    }

    #[test]
    fn a_row_that_cannot_be_read_has_the_longest_lease() {
        let mut observer = Observer::default();
        observer.look(NODE, &Bytes::new(), None, at(0));
        assert!(observer.silent(at(74_999)).is_empty());
        assert_eq!(observer.silent(at(75_000)).len(), 1);
        // One that was read before keeps what it said, and an absurd one is bounded.
        observer.look(Incarnation(8), &Bytes::new(), Some(LEASE), at(0));
        observer.look(Incarnation(8), &Bytes::from_static(b"!"), None, at(100));
        observer.look(Incarnation(9), &Bytes::new(), Some(Duration::MAX), at(0));
        assert_eq!(observer.silent(at(2_600)).len(), 1);
        assert_eq!(observer.silent(at(75_000)).len(), 3);
    }

    proptest! {
        // A node acts until its lease ends, which it counts from before the renewal. Whatever the delays: an observer never
        // calls it silent while it may act.
        #[test]
        fn nobody_is_silent_while_it_holds_its_lease(
            renewals in prop::collection::vec((1_u64..1_900, 0_u64..3_000), 1..40),
            looks in prop::collection::vec(1_u64..900, 1..120),
        ) {
            // When a renewal began, and when its row can be seen.
            let (mut began, mut visible, mut rows) = (0, 0, vec![(0_u64, 0_u64)]);
            for (pause, delay) in renewals {
                began = visible.max(began + pause);
                visible = began + delay;
                rows.push((began, visible));
            }
            let mut observer = Observer::default();
            let mut now = 0;
            for pause in looks {
                now += pause;
                let (beat, (began, _)) = rows.iter().enumerate().rfind(|(_, (_, seen))| *seen <= now).unwrap();
                observer.look(NODE, &Bytes::from(beat.to_string()), Some(LEASE), at(now));
                if !observer.silent(at(now)).is_empty() {
                    prop_assert!(at(*began) + LEASE <= at(now));
                }
            }
        }
    }
}
