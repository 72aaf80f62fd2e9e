use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_proto::Revision;
use aesp_supervision::Handle;
use tokio::{sync::OnceCell, time::Instant};

use crate::{Error, Quotas, Usage, actor::Message, rate::Rate};

/// What this node may spend of a tenant's quotas, by the tenant's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Of the quotas that it is a share of.
    pub(crate) revision: Revision,
    /// The share; on a single node the whole.
    pub(crate) share: Quotas,
}

/// Counts what is in use; never above the limit that held when it was taken.
#[derive(Debug)]
pub(crate) struct Meter {
    used: AtomicU32,
    limit: AtomicU32,
}

impl Meter {
    fn new(limit: u32) -> Self {
        Self { used: AtomicU32::new(0), limit: AtomicU32::new(limit) }
    }

    /// INVARIANT Q1: the count moves up in one step from below the limit.
    fn take(&self) -> Result<(), u32> {
        let limit = self.limit.load(Ordering::Acquire);
        let below = |used| (used < limit).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, below).map(|_| ()).map_err(|_| limit)
    }

    pub(crate) fn give(&self) {
        let down = |used: u32| used.checked_sub(1);
        let gave = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, down);
        debug_assert!(gave.is_ok(), "given back more than was taken");
    }

    /// As [`Meter::give`], for what may have been counted anew between taking and giving.
    pub(crate) fn give_any(&self) {
        let down = |used: u32| Some(used.saturating_sub(1));
        // The closure never refuses.
        let _ = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, down);
    }

    fn used(&self) -> u32 {
        self.used.load(Ordering::Acquire)
    }
}

/// Spends this node's lease on one tenant's quotas. Lock-free but for the rare change of the lease.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) sessions: Meter,
    pub(crate) calls: Meter,
    pub(crate) runtimes: Meter,
    rate: Rate,
    revision: AtomicU64,
    lease: Mutex<Lease>,
    /// The tenant's home actor, once it was needed.
    pub(crate) home: OnceCell<Handle<Message>>,
}

/// How soon a place may be free again: calls end quickly, sessions and Runtimes don't.
const CALL_RETRY: Duration = Duration::from_millis(100);
const LONG_RETRY: Duration = Duration::from_secs(5);

impl Gate {
    pub(crate) fn new(lease: Lease, now: Instant) -> Self {
        Self {
            sessions: Meter::new(lease.share.sessions),
            calls: Meter::new(lease.share.calls_in_flight),
            runtimes: Meter::new(lease.share.runtimes),
            rate: Rate::new(now, lease.share.calls_per_second),
            revision: AtomicU64::new(lease.revision.0),
            lease: Mutex::new(lease),
            home: OnceCell::new(),
        }
    }

    /// Tells whether the lease is of an older revision.
    pub(crate) fn is_older_than(&self, revision: Revision) -> bool {
        self.revision.load(Ordering::Acquire) < revision.0
    }

    pub(crate) fn lease(&self) -> Lease {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spends by this lease from now on, unless a newer one is held. What is in use beyond it stays; nothing is added.
    pub(crate) fn install(&self, lease: Lease) {
        let mut held = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if lease.revision < held.revision {
            return;
        }
        *held = lease;
        self.sessions.limit.store(lease.share.sessions, Ordering::Release);
        self.calls.limit.store(lease.share.calls_in_flight, Ordering::Release);
        self.runtimes.limit.store(lease.share.runtimes, Ordering::Release);
        self.rate.set(lease.share.calls_per_second);
        self.revision.store(lease.revision.0, Ordering::Release);
    }

    pub(crate) fn take_call(&self, now: Instant) -> Result<(), Error> {
        take(&self.calls, "calls in flight", CALL_RETRY)?;
        self.rate.take(now).map_err(|retry_after| {
            self.calls.give();
            Error::RateLimited { limit: self.rate.per_second(), retry_after }
        })
    }

    pub(crate) fn take_session(&self) -> Result<(), Error> {
        take(&self.sessions, "sessions", LONG_RETRY)
    }

    pub(crate) fn take_runtime(&self) -> Result<(), Error> {
        take(&self.runtimes, "Runtimes", LONG_RETRY)
    }

    /// Says how many sessions there are; they may be more than the limit.
    pub(crate) fn set_sessions(&self, count: u32) {
        self.sessions.used.store(count, Ordering::Release);
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            sessions: self.sessions.used(),
            calls_in_flight: self.calls.used(),
            runtimes: self.runtimes.used(),
            quotas: self.lease().share,
        }
    }
}

fn take(meter: &Meter, what: &'static str, retry_after: Duration) -> Result<(), Error> {
    meter.take().map_err(|limit| Error::QuotaExceeded { what, limit, retry_after })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicBool},
        thread,
    };

    use proptest::prelude::*;

    use super::*;

    fn lease(revision: u64, sessions: u32, calls: u32) -> Lease {
        let share = Quotas { sessions, calls_in_flight: calls, calls_per_second: u32::MAX, runtimes: 1 };
        Lease { revision: Revision(revision), share }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        Give,
        Install(u64, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Take),
            2 => Just(Step::Give),
            1 => (0_u64..20, 0_u32..6).prop_map(|(revision, limit)| Step::Install(revision, limit)),
        ]
    }

    proptest! {
        #[test]
        fn the_newest_lease_decides(steps in proptest::collection::vec(step(), 1..100)) {
            let gate = Gate::new(lease(0, 3, 3), Instant::now());
            let (mut used, mut limit, mut newest) = (0, 3, 0);
            for step in steps {
                match step {
                    Step::Take => {
                        let taken = gate.take_session().is_ok();
                        prop_assert_eq!(taken, used < limit);
                        used += u32::from(taken);
                    }
                    Step::Give if used > 0 => {
                        gate.sessions.give();
                        used -= 1;
                    }
                    Step::Give => {}
                    Step::Install(revision, sessions) => {
                        gate.install(lease(revision, sessions, 3));
                        if revision >= newest {
                            (newest, limit) = (revision, sessions);
                        }
                    }
                }
                prop_assert_eq!(gate.usage().sessions, used);
            }
        }
    }

    #[test]
    fn threads_never_hold_more_than_the_limit() {
        let gate = Arc::new(Gate::new(lease(0, 1, 7), Instant::now()));
        let (held, exceeded) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (gate, held, exceeded) = (gate.clone(), held.clone(), exceeded.clone());
                thread::spawn(move || {
                    let mut admitted = 0_u32;
                    for _ in 0..20_000 {
                        if gate.take_call(Instant::now()).is_ok() {
                            admitted += 1;
                            if held.fetch_add(1, Ordering::SeqCst) >= 7 {
                                exceeded.store(true, Ordering::SeqCst);
                            }
                            held.fetch_sub(1, Ordering::SeqCst);
                            gate.calls.give();
                        }
                    }
                    admitted
                })
            })
            .collect();
        let admitted: u32 = threads.into_iter().map(|t| t.join().expect("does not panic")).sum();
        assert!(admitted > 7);
        assert!(!exceeded.load(Ordering::SeqCst));
        assert_eq!(gate.usage().calls_in_flight, 0);
    }

    #[test]
    fn a_call_refused_by_the_rate_leaves_its_place() {
        let share = Quotas { sessions: 1, calls_in_flight: 5, calls_per_second: 2, runtimes: 1 };
        let now = Instant::now();
        let gate = Gate::new(Lease { revision: Revision(1), share }, now);
        assert!(gate.take_call(now).is_ok());
        assert!(gate.take_call(now).is_ok());
        let error = gate.take_call(now).expect_err("the burst is spent");
        let Error::RateLimited { limit: 2, retry_after } = error else { panic!("{error:?}") };
        assert!(retry_after > Duration::ZERO && retry_after <= Duration::from_secs(1));
        assert_eq!(gate.usage().calls_in_flight, 2);
    }
}
