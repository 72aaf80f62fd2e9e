//! What happens at random.

use std::time::Duration;

use aesp_proto::{Incarnation, Revision};

use super::{LONGEST, Letter, RATE, World, missing};
use crate::{Quotas, counts::Limit, message::Newest};

impl World {
    pub(super) fn step(&mut self) {
        let id = self.any_node();
        let limit = Limit::ALL[usize::try_from(self.below(4)).unwrap()];
        match self.below(100) {
            0..30 => {
                self.take(id, limit);
            }
            30..40 => self.give(id, limit),
            40..48 => self.create(id),
            48..75 => self.travel(),
            75..82 => self.write_one(),
            82..88 => self.count_one(),
            88..95 => self.pass(1 + self.below(150)),
            95 => self.kill(id),
            96 if self.nodes.len() < 5 => self.join(),
            97 => self.change_quotas(),
            98 => self.move_home(),
            // The home alone ends, and begins anew at the same owner.
            99 => self.home = None,
            _ => {}
        }
    }

    fn take(&mut self, id: Incarnation, limit: Limit) -> bool {
        let lasts = 1 + self.below(LONGEST);
        let (now_ms, instant) = (self.now_ms, self.instant());
        let node = self.nodes.get_mut(&id).unwrap();
        let taken = match limit {
            Limit::Calls => {
                let lasts = Duration::from_millis(lasts);
                // Without the rate, which has a check of its own.
                lasts <= node.gate.longest() && node.gate.calls.take()
            }
            Limit::Starts => node.gate.starts.take(instant),
            _ => node.gate.meter(limit).unwrap().take(),
        };
        if !taken {
            let missing = missing(node, limit);
            node.holder.wait_for(&missing, Duration::from_millis(lasts));
            let report = node.holder.ask(&node.gate, instant);
            self.report(id, report);
            // Some go on waiting, some leave.
            if self.below(2) == 0 {
                self.nodes.get_mut(&id).unwrap().holder.waits_no_more(&missing);
            }
            return false;
        }
        match limit {
            Limit::Calls => node.calls.push(now_ms + lasts),
            Limit::Sessions => node.creating.push(false),
            Limit::Starts => self.started.push(now_ms),
            Limit::Runtimes => {}
        }
        self.check(limit);
        true
    }

    fn give(&mut self, id: Incarnation, limit: Limit) {
        let node = self.nodes.get_mut(&id).unwrap();
        match limit {
            Limit::Calls => {
                if node.calls.pop().is_some() {
                    node.gate.calls.give();
                }
            }
            Limit::Runtimes => {
                if node.gate.runtimes.level().used > 0 {
                    node.gate.runtimes.give();
                }
            }
            Limit::Starts => {
                let report = node.holder.look(&node.gate);
                self.report(id, report);
            }
            Limit::Sessions => self.sessions = self.sessions.saturating_sub(1),
        }
    }

    /// One step of a session's creation: it is stored, then its place is counted as that; or it fails.
    pub(super) fn create(&mut self, id: Incarnation) {
        let fails = self.below(4) == 0;
        let node = self.nodes.get_mut(&id).unwrap();
        match node.creating.pop() {
            None => {}
            Some(true) => node.gate.session_stored(),
            Some(false) if fails => node.gate.sessions.give(),
            Some(false) => {
                node.creating.insert(0, true);
                self.sessions += 1;
            }
        }
    }

    fn kill(&mut self, id: Incarnation) {
        if self.nodes.len() == 1 {
            return;
        }
        let node = self.nodes.remove(&id).unwrap();
        self.orphans.extend(node.calls);
        self.late += u32::try_from(node.creating.iter().filter(|stored| !**stored).count()).unwrap();
        if self.at == id {
            self.move_home();
        }
    }

    fn move_home(&mut self) {
        self.home = None;
        self.epoch += 1;
        self.at = self.any_node();
        if self.below(2) == 0 {
            self.begin_home();
        }
    }

    /// A change of quotas returns when every node has applied it.
    fn change_quotas(&mut self) {
        let draw = |most: u64| u32::try_from(1 + self.random.below(most)).unwrap();
        let quotas = Quotas {
            sessions: draw(40),
            calls_in_flight: draw(60),
            calls_per_second: RATE,
            runtimes: draw(8),
        };
        self.newest = Newest { revision: Revision(self.newest.revision.0 + 1), quotas };
        for node in self.nodes.values_mut() {
            node.holder.learn(self.newest, &node.gate);
        }
    }

    fn travel(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let at = usize::try_from(self.below(self.letters.len() as u64)).unwrap();
        match self.below(10) {
            0 => drop(self.letters.swap_remove(at)),
            1 => {
                let Letter { from, to, message } = self.letters[at];
                self.deliver(Letter { from, to, message });
            }
            _ => {
                let letter = self.letters.swap_remove(at);
                self.deliver(letter);
            }
        }
    }
}
