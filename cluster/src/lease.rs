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
    /// Guards `until`: only what lives is extended.
    life: watch::Sender<Life>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Lives,
    /// It was given back.
    Left,
    /// It was taken away.
    Over,
}

impl Lease {
    pub(crate) fn new(steady: Arc<dyn Steady>) -> Self {
        Self(Arc::new(Inner { steady, until: AtomicU64::new(0), life: watch::Sender::new(Life::Lives) }))
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
    /// can join again. Never returns for a node that has left by itself.
    pub async fn lost(&self) {
        let mut life = self.0.life.subscribe();
        // The sender lives in `self`, so the wait ends with the value only.
        life.wait_for(|life| *life == Life::Over).await.ok();
    }

    /// Tells whether this incarnation is over for ever.
    pub(crate) fn is_over(&self) -> bool {
        *self.0.life.borrow() == Life::Over
    }

    /// Lets the node act until a moment of the steady clock.
    pub(crate) fn extend(&self, until: Duration) {
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.0.life.send_if_modified(|life| {
            if *life == Life::Lives {
                self.0.until.store(until, Ordering::SeqCst);
            }
            false
        });
    }

    /// Gives the lease back.
    pub(crate) fn leave(&self) {
        self.finish(Life::Left);
    }

    /// Takes the lease away for ever. Returns whether it lived until now.
    pub(crate) fn end(&self) -> bool {
        self.finish(Life::Over)
    }

    fn finish(&self, how: Life) -> bool {
        self.0.life.send_if_modified(|life| {
            self.0.until.store(0, Ordering::SeqCst);
            let lived = *life == Life::Lives;
            if lived {
                *life = how;
            }
            lived
        })
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Hand(Mutex<Duration>);

    impl Steady for Hand {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    #[tokio::test]
    async fn a_lease_ends_by_itself_and_never_comes_back_from_the_end() {
        let hand = Arc::new(Hand::default());
        let lease = Lease::new(hand.clone());
        assert!(!lease.is_held(), "nothing is held before the node serves");
        lease.extend(Duration::from_secs(2));
        *hand.0.lock().unwrap() = Duration::from_millis(1_999);
        assert_eq!(lease.remaining(), Duration::from_millis(1));
        // The process was stopped, or the machine slept.
        *hand.0.lock().unwrap() = Duration::from_secs(3_600);
        assert!(!lease.is_held());
        lease.extend(Duration::from_secs(3_601));
        assert!(lease.is_held());
        assert!(lease.end() && !lease.end());
        lease.extend(Duration::from_secs(9_999));
        assert!(!lease.is_held() && lease.is_over());
        lease.lost().await;
    }

    #[tokio::test]
    async fn who_has_left_has_lost_nothing() {
        let lease = Lease::new(Arc::new(Hand::default()));
        lease.leave();
        assert!(!lease.end());
        lease.extend(Duration::from_secs(1));
        assert!(!lease.is_held() && !lease.is_over());
        let lost = tokio::time::timeout(Duration::from_millis(5), lease.lost()).await;
        assert!(lost.is_err());
    }
}
