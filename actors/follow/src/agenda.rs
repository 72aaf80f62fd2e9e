//! Whose log one follower has to look at next. Pure: no I/O and no clock.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use aesp_proto::{TenantId, Timestamp};
use tokio::time::Instant;

use crate::Advance;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The tenants that a follower has to look at, and when.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    tenants: HashMap<TenantId, Entry>,
    /// Those that wait, in the order of their turns.
    turns: BTreeSet<(Instant, u64, TenantId)>,
    /// Grows with each turn that is given, so that turns of the same time keep their order.
    given: u64,
}

#[derive(Debug)]
struct Entry {
    /// The time of the oldest news that is not worked off.
    since: Timestamp,
    state: State,
    /// Steps that failed, one after the other.
    failures: u32,
}

#[derive(Debug)]
enum State {
    /// Has its turn at that time.
    Waits(Instant, u64),
    /// A step is at work; news that came since then may be behind it.
    Runs { news: Option<Timestamp> },
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Advanced(Advance),
    Failed,
    /// The tenant has another home.
    Gone,
}

impl Agenda {
    /// Notes that the tenant's log grew at `at`.
    pub(crate) fn news(&mut self, tenant: TenantId, at: Timestamp, now: Instant) {
        match self.tenants.get_mut(&tenant) {
            None => self.wait(tenant, at, 0, now),
            Some(Entry { state: State::Runs { news }, .. }) => {
                news.get_or_insert(at);
            }
            Some(Entry { state: State::Waits(..), .. }) => {}
        }
    }

    /// Takes the tenant whose turn it is.
    pub(crate) fn next(&mut self, now: Instant) -> Option<TenantId> {
        let first = *self.turns.first().filter(|(at, ..)| *at <= now)?;
        self.turns.remove(&first);
        let (.., tenant) = first;
        let entry = self.tenants.get_mut(&tenant).expect("who has a turn has an entry");
        entry.state = State::Runs { news: None };
        Some(tenant)
    }

    /// Notes how the tenant's step ended.
    pub(crate) fn ended(&mut self, tenant: TenantId, ended: Ended, now: Instant) {
        let Some(Entry { since, state: State::Runs { news }, failures }) = self.tenants.remove(&tenant)
        else {
            return;
        };
        match (ended, news) {
            (Ended::Gone, _) | (Ended::Advanced(Advance::AtEnd), None) => {}
            (Ended::Advanced(Advance::AtEnd), Some(at)) => self.wait(tenant, at, 0, now),
            (Ended::Advanced(Advance::More), _) => self.wait(tenant, since, 0, now),
            (Ended::Advanced(Advance::Later(pause)), _) => self.wait(tenant, since, 0, now + pause),
            (Ended::Failed, _) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
                self.wait(tenant, since, failures.saturating_add(1), now + pause);
            }
        }
    }

    fn wait(&mut self, tenant: TenantId, since: Timestamp, failures: u32, at: Instant) {
        self.given += 1;
        self.turns.insert((at, self.given, tenant));
        self.tenants.insert(tenant, Entry { since, state: State::Waits(at, self.given), failures });
    }

    /// Forgets who waits and is not to be looked at here any more.
    pub(crate) fn keep(&mut self, stays: impl Fn(TenantId) -> bool) {
        let turns = &mut self.turns;
        self.tenants.retain(|tenant, entry| match entry.state {
            State::Waits(at, order) if !stays(*tenant) => {
                turns.remove(&(at, order, *tenant));
                false
            }
            _ => true,
        });
    }

    /// Returns when the next turn is.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.turns.first().map(|(at, ..)| *at)
    }

    /// Returns how many tenants are not worked off.
    pub(crate) fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Returns the time of the oldest news that is not worked off.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.tenants.values().map(|entry| entry.since).min()
    }
}

#[cfg(test)]
mod tests;
