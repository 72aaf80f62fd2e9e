use std::ops::{Index, IndexMut};

use aesp_proto::v1;

use crate::Quotas;

/// What a tenant's quotas limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limit {
    /// Sessions that have not ended. Credits are for new ones; those that are stored are counted in the store.
    Sessions,
    /// Calls that run.
    Calls,
    /// Connected Runtimes.
    Runtimes,
    /// Calls that start.
    Starts,
}

impl Limit {
    pub(crate) const ALL: [Self; 4] = [Self::Sessions, Self::Calls, Self::Runtimes, Self::Starts];
    /// Those that are held for as long as something is there.
    pub(crate) const LEVELS: [Self; 3] = [Self::Sessions, Self::Calls, Self::Runtimes];

    /// Returns its name, for labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Calls => "calls",
            Self::Runtimes => "runtimes",
            Self::Starts => "rate",
        }
    }

    /// Returns what there may be so many of, for people.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Calls => "calls in flight",
            Self::Runtimes => "Runtimes",
            Self::Starts => "calls a second",
        }
    }

    /// Returns the quota.
    pub(crate) fn of(self, quotas: &Quotas) -> u32 {
        match self {
            Self::Sessions => quotas.sessions,
            Self::Calls => quotas.calls_in_flight,
            Self::Runtimes => quotas.runtimes,
            Self::Starts => quotas.calls_per_second,
        }
    }
}

/// One value for each limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Each<T>([T; 4]);

/// A number for each limit.
pub(crate) type Counts = Each<u32>;

impl<T> Each<T> {
    pub(crate) fn new(value: impl FnMut(Limit) -> T) -> Self {
        Self(Limit::ALL.map(value))
    }
}

impl<T> Index<Limit> for Each<T> {
    type Output = T;

    fn index(&self, limit: Limit) -> &T {
        &self.0[limit as usize]
    }
}

impl<T> IndexMut<Limit> for Each<T> {
    fn index_mut(&mut self, limit: Limit) -> &mut T {
        &mut self.0[limit as usize]
    }
}

impl From<Counts> for v1::CreditCounts {
    fn from(counts: Counts) -> Self {
        let [sessions, calls, runtimes, starts] = counts.0;
        Self { sessions, calls, runtimes, starts }
    }
}

impl From<v1::CreditCounts> for Counts {
    fn from(wire: v1::CreditCounts) -> Self {
        Self([wire.sessions, wire.calls, wire.runtimes, wire.starts])
    }
}
