use std::sync::atomic::{AtomicU64, Ordering};

/// What a node may use of a limit without asking, and what it uses. One word, so that both are always seen together.
#[derive(Debug, Default)]
pub(crate) struct Meter(AtomicU64);

/// A meter at one moment. The limit may be below what is used: then nothing is free until enough has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) limit: u32,
    pub(crate) used: u32,
}

impl Level {
    /// Returns how many credits are bound here.
    pub(crate) fn held(self) -> u32 {
        self.limit.max(self.used)
    }

    fn pack(self) -> u64 {
        u64::from(self.limit) << 32 | u64::from(self.used)
    }

    fn unpack(word: u64) -> Self {
        Self { limit: (word >> 32) as u32, used: word as u32 }
    }
}

impl Meter {
    /// Takes a place; false if none is free.
    ///
    /// INVARIANT Q1: what is used moves up in one step from below the limit.
    pub(crate) fn take(&self) -> bool {
        self.change(|level| (level.used < level.limit).then(|| Level { used: level.used + 1, ..level }))
            .is_some()
    }

    /// Frees a place; its credit stays.
    pub(crate) fn give(&self) {
        let gave = self.change(|level| Some(Level { used: level.used.checked_sub(1)?, ..level }));
        debug_assert!(gave.is_some(), "given back more than was taken");
    }

    /// Frees a place together with its credit.
    pub(crate) fn spend(&self) {
        let spent = self.change(|Level { limit, used }| {
            Some(Level { limit: limit.saturating_sub(1), used: used.checked_sub(1)? })
        });
        debug_assert!(spent.is_some(), "spent more than was taken");
    }

    pub(crate) fn raise(&self, by: u32) {
        self.change(|level| Some(Level { limit: level.limit.saturating_add(by), ..level }));
    }

    /// Lowers the limit to `to`, if it is above.
    pub(crate) fn lower(&self, to: impl Fn(Level) -> u32) {
        self.change(|level| Some(Level { limit: level.limit.min(to(level)), ..level }));
    }

    pub(crate) fn level(&self) -> Level {
        Level::unpack(self.0.load(Ordering::Acquire))
    }

    fn change(&self, change: impl Fn(Level) -> Option<Level>) -> Option<Level> {
        let next = |word| change(Level::unpack(word)).map(Level::pack);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok().map(Level::unpack)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicU32},
        },
        thread,
    };

    use super::*;

    #[test]
    fn a_limit_below_what_is_used_admits_nothing_until_enough_has_ended() {
        let meter = Meter::default();
        assert!(!meter.take());
        meter.raise(2);
        assert!(meter.take() && meter.take() && !meter.take());
        meter.lower(|_| 1);
        assert_eq!(meter.level(), Level { limit: 1, used: 2 });
        assert_eq!(meter.level().held(), 2);
        meter.give();
        assert!(!meter.take());
        meter.give();
        assert!(meter.take());
        meter.spend();
        assert_eq!(meter.level(), Level::default());
    }

    #[test]
    fn threads_never_hold_more_than_the_limit_whatever_happens_to_it() {
        let meter = Arc::new(Meter::default());
        meter.raise(7);
        let (held, exceeded) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let busy = Arc::new(AtomicU32::new(7));
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (meter, held, exceeded) = (meter.clone(), held.clone(), exceeded.clone());
                let busy = busy.clone();
                thread::spawn(move || {
                    if number == 0 {
                        while busy.load(Ordering::SeqCst) > 0 {
                            meter.lower(|level| level.used);
                            meter.raise(7 - meter.level().limit.min(7));
                        }
                        return;
                    }
                    let mut admitted = 0;
                    while admitted < 5_000 {
                        if meter.take() {
                            admitted += 1;
                            if held.fetch_add(1, Ordering::SeqCst) >= 7 {
                                exceeded.store(true, Ordering::SeqCst);
                            }
                            held.fetch_sub(1, Ordering::SeqCst);
                            meter.give();
                        }
                    }
                    busy.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("does not panic"));
        assert!(!exceeded.load(Ordering::SeqCst));
        assert_eq!(meter.level().used, 0);
    }
}
