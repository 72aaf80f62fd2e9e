use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aesp_proto::TenantId;
use tokio::{sync::Notify, time::Instant};

use crate::{Error, unit::Unit};

type Waiting = Arc<dyn Unit>;

/// The bounded queue before the writer. Refuses at once when it is full, and while the writer waits for the store.
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    limits: Limits,
}

/// How many units may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) total: usize,
    pub(crate) per_tenant: usize,
}

struct State {
    /// Taken already, but not fitted into the last batch: they go first.
    returned: VecDeque<Waiting>,
    lanes: HashMap<TenantId, VecDeque<(u64, Waiting)>>,
    /// The tenants that wait, in the order of their next turn.
    turns: VecDeque<TenantId>,
    waiting: usize,
    arrivals: u64,
    mode: Mode,
}

#[derive(Clone, Copy)]
enum Mode {
    Open,
    Parked(Instant),
    /// Takes no more; what waits is still written.
    Closing,
}

const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Queue {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State {
            returned: VecDeque::new(),
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            arrivals: 0,
            mode: Mode::Open,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), limits }
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends a unit to its tenant's lane.
    pub(crate) fn push(&self, tenant: TenantId, unit: Waiting) -> Result<(), Error> {
        self.with(|state| {
            match state.mode {
                Mode::Open => {}
                Mode::Closing => return Err(Error::Stopped),
                Mode::Parked(until) => {
                    let now = Instant::now();
                    if now < until {
                        return Err(Error::Parked { retry_after: until - now });
                    }
                    state.mode = Mode::Open;
                }
            }
            let lane = state.lanes.entry(tenant).or_default();
            if state.waiting >= self.limits.total || lane.len() >= self.limits.per_tenant {
                return Err(Error::Overloaded { retry_after: RETRY_AFTER });
            }
            if lane.is_empty() {
                state.turns.push_back(tenant);
            }
            lane.push_back((state.arrivals, unit));
            state.arrivals += 1;
            state.waiting += 1;
            Ok(())
        })?;
        self.wake.notify_one();
        Ok(())
    }

    /// Waits for units and takes at most `limit`: in the order of arrival, and tenant by tenant when more wait. `None`
    /// when the queue is closed and empty.
    pub(crate) async fn take(&self, limit: usize) -> Option<Vec<Waiting>> {
        loop {
            let (units, closing) = self.with(|s| (s.take(limit), matches!(s.mode, Mode::Closing)));
            if !units.is_empty() {
                return Some(units);
            }
            if closing {
                return None;
            }
            self.wake.notified().await;
        }
    }

    /// Puts back, at the front, what did not fit into the batch.
    pub(crate) fn put_back(&self, units: impl DoubleEndedIterator<Item = Waiting>) {
        self.with(|state| {
            for unit in units.rev() {
                state.returned.push_front(unit);
                state.waiting += 1;
            }
        });
        self.wake.notify_one();
    }

    /// Refuses new units until `until` and returns those that wait.
    pub(crate) fn park(&self, until: Instant) -> Vec<Waiting> {
        self.with(|state| {
            if !matches!(state.mode, Mode::Closing) {
                state.mode = Mode::Parked(until);
            }
            state.take(usize::MAX)
        })
    }

    /// Takes no more units; the writer ends after the last that waits.
    pub(crate) fn close(&self) {
        self.with(|state| state.mode = Mode::Closing);
        self.wake.notify_one();
    }

    /// Tells whether new units are refused because the store did not take the last ones.
    pub(crate) fn is_parked(&self) -> bool {
        let now = Instant::now();
        self.with(|state| matches!(state.mode, Mode::Parked(until) if now < until))
    }

    /// Returns how many units wait.
    pub(crate) fn waiting(&self) -> usize {
        self.with(|state| state.waiting)
    }
}

impl State {
    fn take(&mut self, limit: usize) -> Vec<Waiting> {
        let mut units: Vec<Waiting> = self.returned.drain(..limit.min(self.returned.len())).collect();
        let mut taken = Vec::with_capacity(limit.saturating_sub(units.len()).min(self.waiting));
        while units.len() + taken.len() < limit {
            let Some(tenant) = self.turns.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&tenant) else { continue };
            taken.extend(lane.pop_front());
            if lane.is_empty() {
                self.lanes.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
        taken.sort_unstable_by_key(|(arrival, _)| *arrival);
        units.extend(taken.into_iter().map(|(_, unit)| unit));
        self.waiting -= units.len();
        units
    }
}
