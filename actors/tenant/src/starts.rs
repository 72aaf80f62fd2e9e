use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// For how long a start that was handed out may be used.
pub(crate) const LIFE: Duration = Duration::from_millis(256);

/// Time is told in steps of this many milliseconds, so that it fits into half a word for two years.
const STEP_MS: u128 = 16;

/// Calls that may start on this node without asking, until they go stale. One word: until when, and how many.
#[derive(Debug)]
pub(crate) struct Starts {
    base: Instant,
    word: AtomicU64,
}

impl Starts {
    pub(crate) fn new(base: Instant) -> Self {
        Self { base, word: AtomicU64::new(0) }
    }

    /// Takes one; false if there is none that is fresh.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let now = self.step(now);
        let one_less = |word: u64| (fresh(word, now) > 0).then(|| word - 1);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok()
    }

    pub(crate) fn any(&self, now: Instant) -> bool {
        fresh(self.word.load(Ordering::Acquire), self.step(now)) > 0
    }

    /// Replaces what is there by `count` that live from now on.
    pub(crate) fn fill(&self, count: u32, now: Instant) {
        let until = self.step(now + LIFE);
        self.word.store(u64::from(until) << 32 | u64::from(count), Ordering::Release);
    }

    /// Takes all that are fresh.
    pub(crate) fn drain(&self, now: Instant) -> u32 {
        fresh(self.word.swap(0, Ordering::AcqRel), self.step(now))
    }

    /// Drops all.
    pub(crate) fn clear(&self) {
        self.word.store(0, Ordering::Release);
    }

    fn step(&self, at: Instant) -> u32 {
        let steps = at.saturating_duration_since(self.base).as_millis() / STEP_MS;
        u32::try_from(steps).unwrap_or(u32::MAX)
    }
}

fn fresh(word: u64, now: u32) -> u32 {
    if now < (word >> 32) as u32 { word as u32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_used_once_and_go_stale() {
        let base = Instant::now();
        let starts = Starts::new(base);
        assert!(!starts.take(base) && !starts.any(base));
        starts.fill(2, base);
        assert!(starts.take(base) && starts.take(base) && !starts.take(base));
        starts.fill(2, base);
        assert!(starts.take(base));
        assert_eq!(starts.drain(base), 1);
        starts.fill(2, base);
        assert!(!starts.take(base + LIFE) && starts.drain(base + LIFE) == 0);
        starts.fill(2, base);
        assert!(starts.take(base + LIFE - Duration::from_millis(17)));
    }
}
