use std::sync::{Mutex, PoisonError};

use aesp_proto::Entropy;

use super::Crash;

/// Makes actors panic as it was told.
#[derive(Default)]
pub(super) struct Crashing(Mutex<Option<Ordered>>);

struct Ordered {
    crash: Crash,
    left: u64,
    random: Entropy,
}

impl Crashing {
    pub(super) fn order(&self, crash: Option<Crash>, seed: u64) {
        let ordered =
            crash.map(|crash| Ordered { left: crash.times, random: Entropy::from_seed(seed), crash });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ordered;
    }

    /// Is called in the task of an actor before it handles a message.
    ///
    /// # Panics
    /// When the actor is to crash.
    pub(super) fn before(&self, actor: &'static str) {
        let crashes = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().is_some_and(|ordered| {
            let hit = ordered.crash.actor == actor
                && ordered.left > 0
                && ordered.random.below(ordered.crash.one_in.max(1)) == 0;
            ordered.left -= u64::from(hit);
            hit
        });
        // With the lock given back: a poisoned one would be everybody's.
        assert!(!crashes, "this crash of {actor} was ordered by a chaos test");
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn the_ordered_actor_panics_as_often_as_ordered() {
        let crashing = Crashing::default();
        let crashes = |actor: &'static str| catch_unwind(|| crashing.before(actor)).is_err();
        assert!(!crashes("tenant"));
        crashing.order(Some(Crash { actor: "tenant".into(), one_in: 1, times: 2 }), 1);
        assert_eq!((crashes("session"), crashes("tenant")), (false, true));
        assert_eq!((crashes("tenant"), crashes("tenant")), (true, false));
    }
}
