use std::{collections::BTreeSet, time::Duration};

use aesp_proto::Incarnation;

/// The pause after a count is so many times as long as the count, and no longer than this, because somebody may wait.
const PAUSE: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// After what time a count that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// How many sessions are in the store, at the most.
///
/// They are counted there and kept in no counter row: a count can't drift, and needs no write that all of a tenant's sessions
/// would share. Between two counts only those are added that nodes say they have stored; that some ended shows with the next
/// count, which whoever would be refused waits for.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    most: Option<u64>,
    /// When the count began that this is by.
    began: Option<Duration>,
    counting: Option<Counting>,
    /// Somebody waits for a count that begins now or later.
    wanted: bool,
    /// Not to be counted again before.
    not_before: Duration,
}

#[derive(Debug)]
struct Counting {
    began: Duration,
    /// What was stored since: the count may have missed it.
    more: u64,
    /// Dead nodes: what they had is in the count.
    gone: BTreeSet<Incarnation>,
    /// It says nothing.
    doubted: bool,
}

impl Stored {
    pub(crate) fn most(&self) -> Option<u64> {
        self.most
    }

    /// Tells whether the number is by a count that began at `at` or later.
    pub(crate) fn is_since(&self, at: Duration) -> bool {
        self.began.is_some_and(|began| began >= at)
    }

    pub(crate) fn is_counting(&self) -> bool {
        self.counting.is_some()
    }

    /// A node has stored so many more.
    pub(crate) fn more(&mut self, count: u64) {
        self.most = self.most.map(|most| most.saturating_add(count));
        if let Some(counting) = &mut self.counting {
            counting.more = counting.more.saturating_add(count);
        }
    }

    /// Something was stored that no count up to now has.
    pub(crate) fn doubt(&mut self) {
        self.most = None;
        if let Some(counting) = &mut self.counting {
            counting.doubted = true;
        }
    }

    /// Wants another count, unless one runs that began at `at` or later.
    pub(crate) fn want(&mut self, at: Duration) {
        let running =
            self.counting.as_ref().is_some_and(|counting| counting.began >= at && !counting.doubted);
        self.wanted |= !running;
    }

    /// Begins a count if one is wanted and may begin.
    pub(crate) fn begin(&mut self, gone: impl Iterator<Item = Incarnation>, now: Duration) -> bool {
        if !self.wanted || self.counting.is_some() || now < self.not_before {
            return false;
        }
        self.wanted = false;
        self.counting = Some(Counting { began: now, more: 0, gone: gone.collect(), doubted: false });
        true
    }

    /// Ends a count; returns the dead nodes whose sessions are all in it.
    pub(crate) fn counted(&mut self, count: Option<u64>, now: Duration) -> BTreeSet<Incarnation> {
        let Some(counting) = self.counting.take() else { return BTreeSet::new() };
        match count {
            Some(count) if !counting.doubted => {
                self.most = Some(count.saturating_add(counting.more));
                self.began = Some(counting.began);
                self.not_before = now + (now.saturating_sub(counting.began) * PAUSE).min(LONGEST_PAUSE);
                counting.gone
            }
            _ => {
                self.wanted = true;
                self.not_before = if counting.doubted { now } else { now + RETRY };
                BTreeSet::new()
            }
        }
    }
}
