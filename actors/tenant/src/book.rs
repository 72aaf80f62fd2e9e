use std::time::Duration;

use crate::{
    ceilings::Ceiling,
    counts::{Counts, Each, Limit},
    message::Report,
    meter::Level,
    starts::LIFE,
};

/// What a home knows of one node.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// The number of the last report; none before the first one under this term.
    pub(crate) heard: Option<u64>,
    /// When that was.
    pub(crate) heard_at: Duration,
    /// Whether that report may still be answered.
    pub(crate) open: bool,
    /// As last reported.
    pub(crate) levels: Each<Level>,
    /// The most that the node holds now.
    pub(crate) held: Counts,
    /// The longest call that may start there.
    pub(crate) longest: Duration,
    pub(crate) wanted: Counts,
    wishes: Counts,
    pub(crate) wanted_longest: Duration,
    /// Since when it waits for what.
    pub(crate) asked_at: Each<Option<Duration>>,
    /// Sessions that it has stored.
    pub(crate) stored: u64,
    /// When it was last given starts.
    pub(crate) starts_at: Option<Duration>,
    /// Whether it was seen alive.
    pub(crate) seen: bool,
    /// When it was seen dead.
    pub(crate) gone: Option<Duration>,
}

impl Book {
    /// Opens the book of a node that an earlier home gave something to.
    pub(crate) fn of(ceiling: Ceiling, lives: bool, now: Duration) -> Self {
        let mut book = Self { held: ceiling.held, longest: ceiling.longest, seen: true, ..Self::default() };
        if !lives {
            book.die(now);
        }
        book
    }

    /// Writes down what the node reports.
    pub(crate) fn hear(&mut self, report: &Report, now: Duration) {
        self.heard = Some(report.number);
        self.heard_at = now;
        self.open = true;
        self.levels = report.levels;
        self.held = Each::new(|limit| report.levels[limit].held());
        self.longest = report.allowed;
        self.wanted = report.wanted;
        self.wanted_longest = report.longest;
        self.stored = report.stored;
        for limit in Limit::ALL {
            let before = self.asked_at[limit].filter(|_| self.wishes[limit] == report.wishes[limit]);
            self.asked_at[limit] = (report.wanted[limit] > 0).then(|| before.unwrap_or(now));
        }
        self.wishes = report.wishes;
    }

    /// Tells whether the node is to be answered.
    pub(crate) fn waits(&self) -> bool {
        self.open && self.since().is_some()
    }

    /// Returns since when the node waits.
    pub(crate) fn since(&self) -> Option<Duration> {
        Limit::ALL.into_iter().filter_map(|limit| self.asked_at[limit]).min()
    }

    /// Tells whether the node may hold something that it does not use.
    pub(crate) fn may_idle(&self, limit: Limit, now: Duration) -> bool {
        let holds = match limit {
            Limit::Starts => self.starts_at.is_some_and(|at| now < at + LIFE),
            _ => self.held[limit] > 0,
        };
        holds && self.gone.is_none()
    }

    /// The node is dead. Its Runtimes are gone with it; its calls may still run, and its last sessions are not counted yet.
    pub(crate) fn die(&mut self, now: Duration) {
        self.gone = Some(now);
        self.open = false;
        self.held[Limit::Runtimes] = 0;
        self.asked_at = Each::default();
        self.starts_at = None;
    }

    /// Frees the places of a dead node's calls once they must have ended.
    pub(crate) fn end_calls(&mut self, now: Duration) -> bool {
        let ended = self.gone.is_some_and(|gone| now >= gone + self.longest) && self.held[Limit::Calls] > 0;
        if ended {
            self.held[Limit::Calls] = 0;
        }
        ended
    }

    /// Returns the most that the node may hold.
    pub(crate) fn ceiling(&self) -> Ceiling {
        let longest = if self.held[Limit::Calls] > 0 { self.longest } else { Duration::ZERO };
        Ceiling { held: self.held, longest }
    }
}
