use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::steady::Steady;

/// How long this node may act. Asked at every act, because a node that was suspended wakes up in the middle of one. Cheap to
/// clone.
///
/// Nothing is held before the node serves, and nothing while the lease is overdue.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    steady: Arc<dyn Steady>,
    /// Until when, in nanoseconds of the steady clock; 0 for a lease that is not held.
    until: AtomicU64,
    /// Guards `until`: a lease that is over for ever is never extended.
    over: watch::Sender<bool>,
}

impl Lease {
    pub(crate) fn new(steady: Arc<dyn Steady>) -> Self {
        Self(Arc::new(Inner { steady, until: AtomicU64::new(0), over: watch::Sender::new(false) }))
    }

    /// Returns for how long the node may still act: zero once the lease is lost, overdue, or not yet taken up.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let until = Duration::from_nanos(self.0.until.load(Ordering::SeqCst));
        until.saturating_sub(self.0.steady.now())
    }

    /// Tells whether the node may act.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Returns when this incarnation is over for ever: declared dead by another node, or gone from the store. Only a new process
    /// can join again.
    pub async fn lost(&self) {
        let mut over = self.0.over.subscribe();
        // The sender lives in `self`, so the wait ends with the value only.
        over.wait_for(|over| *over).await.ok();
    }

    /// Returns whether this incarnation is over for ever.
    pub(crate) fn is_over(&self) -> bool {
        *self.0.over.borrow()
    }

    /// Lets the node act until a moment of the steady clock.
    pub(crate) fn extend(&self, until: Duration) {
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.0.over.send_if_modified(|over| {
            if !*over {
                self.0.until.store(until, Ordering::SeqCst);
            }
            false
        });
    }

    /// Takes the lease away until it is extended again.
    pub(crate) fn lapse(&self) {
        self.0.until.store(0, Ordering::SeqCst);
    }

    /// Takes the lease away for ever.
    pub(crate) fn end(&self) {
        self.0.over.send_modify(|over| {
            *over = true;
            self.0.until.store(0, Ordering::SeqCst);
        });
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}
