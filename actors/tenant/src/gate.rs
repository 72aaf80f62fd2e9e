use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    counts::{Each, Limit},
    meter::{Level, Meter},
    starts::Starts,
};

/// What this node may use of one tenant's limits without asking the tenant's home. Lock-free.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) sessions: Meter,
    pub(crate) calls: Meter,
    pub(crate) runtimes: Meter,
    pub(crate) starts: Starts,
    /// How long a call may take that starts here, in nanoseconds.
    longest_ns: AtomicU64,
    /// Sessions that were stored.
    stored: AtomicU64,
}

impl Gate {
    /// Creates one that has nothing.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            sessions: Meter::default(),
            calls: Meter::default(),
            runtimes: Meter::default(),
            starts: Starts::new(now),
            longest_ns: AtomicU64::new(0),
            stored: AtomicU64::new(0),
        }
    }

    /// Starts a call that takes at most so long, or tells what is missing.
    pub(crate) fn take_call(&self, lasts: Duration, now: Instant) -> Result<(), Vec<Limit>> {
        if lasts > self.longest() || !self.calls.take() {
            let starts = (!self.starts.any(now)).then_some(Limit::Starts);
            return Err(std::iter::once(Limit::Calls).chain(starts).collect());
        }
        if self.starts.take(now) {
            return Ok(());
        }
        self.calls.give();
        Err(vec![Limit::Starts])
    }

    pub(crate) fn meter(&self, limit: Limit) -> Option<&Meter> {
        match limit {
            Limit::Sessions => Some(&self.sessions),
            Limit::Calls => Some(&self.calls),
            Limit::Runtimes => Some(&self.runtimes),
            Limit::Starts => None,
        }
    }

    pub(crate) fn levels(&self) -> Each<Level> {
        Each::new(|limit| self.meter(limit).map(Meter::level).unwrap_or_default())
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.load(Ordering::Acquire))
    }

    pub(crate) fn set_longest(&self, longest: Duration) {
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        self.longest_ns.store(longest, Ordering::Release);
    }

    /// A session for which a place was taken is in the store, or may be.
    ///
    /// INVARIANT Q1: first it is counted as stored, then its credit goes; whoever reads them in the other order counts it once
    /// or twice, but never not at all.
    pub(crate) fn session_stored(&self) {
        self.stored.fetch_add(1, Ordering::AcqRel);
        self.sessions.spend();
    }

    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_refused_by_the_rate_leaves_its_place() {
        let now = Instant::now();
        let gate = Gate::new(now);
        let second = Duration::from_secs(1);
        assert_eq!(gate.take_call(second, now), Err(vec![Limit::Calls, Limit::Starts]));
        gate.calls.raise(5);
        gate.set_longest(second);
        gate.starts.fill(2, now);
        assert_eq!(gate.take_call(second * 2, now), Err(vec![Limit::Calls]), "nobody knows of one so long");
        assert!(gate.take_call(second, now).is_ok() && gate.take_call(second, now).is_ok());
        assert_eq!(gate.take_call(second, now), Err(vec![Limit::Starts]));
        assert_eq!(gate.levels()[Limit::Calls], Level { limit: 5, used: 2 });
    }
}
