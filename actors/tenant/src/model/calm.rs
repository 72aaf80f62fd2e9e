//! When the faults are over: who waits is answered, and a limit is used to the last place.

use std::time::Duration;

use aesp_proto::Incarnation;

use super::{LONGEST, RATE, World, missing};
use crate::{counts::Limit, holder::Refused, starts::LIFE};

impl World {
    /// Lets everything arrive that is on its way.
    pub(super) fn settle(&mut self) {
        loop {
            if !self.letters.is_empty() {
                let letter = self.letters.remove(0);
                self.deliver(letter);
            } else if !self.writes.is_empty() {
                self.write_one();
            } else if !self.counts.is_empty() {
                self.count_one();
            } else {
                return;
            }
        }
    }

    /// Ends the faults: who waited has left, what dead nodes ran has ended.
    pub(super) fn quieten(&mut self) {
        self.quiet = true;
        self.begin_home();
        for node in self.nodes.values_mut() {
            let wanted = node.holder.newest();
            assert_eq!(wanted, self.newest);
            for limit in Limit::ALL {
                (0..10_000).for_each(|_| node.holder.waits_no_more(&[limit]));
            }
        }
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        for id in nodes {
            while !self.nodes[&id].creating.is_empty() {
                self.create(id);
            }
        }
        // Longer than a node may take to be seen, and its longest call after that.
        for _ in 0..150 {
            self.pass(100);
            self.settle();
        }
        assert!(self.orphans.iter().all(|until| *until <= self.now_ms));
    }

    /// Waits as an admission does.
    pub(super) fn acquire(&mut self, id: Incarnation, limit: Limit) -> Result<(), Refused> {
        for attempt in 0..160 {
            let instant = self.instant();
            let lasts = Duration::from_millis(LONGEST);
            let node = self.nodes.get_mut(&id).unwrap();
            let taken = match limit {
                Limit::Calls => lasts <= node.gate.longest() && node.gate.calls.take(),
                Limit::Starts => node.gate.starts.take(instant),
                _ => node.gate.meter(limit).unwrap().take(),
            };
            if taken {
                match limit {
                    Limit::Calls => node.calls.push(u64::MAX),
                    Limit::Starts => self.started.push(self.now_ms),
                    _ => {}
                }
                return Ok(());
            }
            let missing = missing(node, limit);
            let since = node.holder.wait_for(&missing, lasts);
            let report = node.holder.ask(&node.gate, instant);
            self.report(id, report);
            self.settle();
            let node = self.nodes.get_mut(&id).unwrap();
            let refusal = node.holder.refusal(limit, since);
            node.holder.waits_no_more(&missing);
            match refusal {
                // What was granted is there at once.
                None if attempt % 4 < 3 => {}
                Some(Refused::Unknown) | None => self.pass(100),
                Some(refused) => return Err(refused),
            }
        }
        panic!(
            "nobody answers who waits at {id:?} for {} (AESP_SEED={}): {:#?} {:#?}",
            limit.name(),
            self.seed,
            self.nodes[&id].holder,
            self.home,
        );
    }

    /// Takes all that is left of a limit, from random nodes; exactly the quota must come of it.
    pub(super) fn exhaust(&mut self, limit: Limit) {
        let quota = limit.of(&self.newest.quotas);
        let free = quota.saturating_sub(self.used(limit));
        for _ in 0..free {
            let id = self.any_node();
            // Whatever was before has been before.
            self.now_ms += 1;
            let acquired = self.acquire(id, limit);
            assert_eq!(
                acquired,
                Ok(()),
                "{} of {} {} (AESP_SEED={})",
                self.used(limit),
                quota,
                limit.name(),
                self.seed
            );
            if limit == Limit::Sessions {
                self.sessions += 1;
                self.nodes[&id].gate.session_stored();
            }
            self.check(limit);
        }
        let id = self.any_node();
        let more = self.acquire(id, limit);
        assert!(matches!(more, Err(Refused::AtLimit { .. })), "{more:?} (AESP_SEED={})", self.seed);
    }

    pub(super) fn check_rate(&self) {
        for (first, start) in self.started.iter().enumerate() {
            for (last, end) in self.started.iter().enumerate().skip(first) {
                let window = u128::from(end - start) + LIFE.as_millis();
                let most = u128::from(RATE) * window / 1_000 + u128::from(RATE) + 1;
                let count = (last - first + 1) as u128;
                assert!(count <= most, "{count} starts in {window} ms (AESP_SEED={})", self.seed);
            }
        }
    }
}
