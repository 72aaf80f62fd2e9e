use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

const SECOND_NS: u64 = 1_000_000_000;

/// Admits calls at a rate, with a burst of one second's worth. Lock-free; the time comes with the question.
///
/// Source: the generic cell rate algorithm in its virtual scheduling form, ITU-T I.371.
#[derive(Debug)]
pub(crate) struct Rate {
    base: Instant,
    /// When the next call is due in theory, in nanoseconds after `base`.
    due_ns: AtomicU64,
    per_second: AtomicU32,
}

impl Rate {
    pub(crate) fn new(base: Instant, per_second: u32) -> Self {
        Self { base, due_ns: AtomicU64::new(0), per_second: AtomicU32::new(per_second) }
    }

    /// Takes effect with the next call; what was spent stays spent.
    pub(crate) fn set(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    pub(crate) fn per_second(&self) -> u32 {
        self.per_second.load(Ordering::Relaxed)
    }

    /// Admits a call at `now`, or tells how long to wait.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        let per_second = u64::from(self.per_second());
        if per_second == 0 {
            return Err(Duration::from_secs(1));
        }
        let now = u64::try_from(now.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX);
        // Rounded up, so that never more are admitted than the quota says.
        let interval = SECOND_NS.div_ceil(per_second);
        let burst = interval * per_second;
        let mut early = 0;
        let taken = self.due_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            let next = due.max(now) + interval;
            early = (next - now).saturating_sub(burst);
            (early == 0).then_some(next)
        });
        taken.map(|_| ()).map_err(|_| Duration::from_nanos(early))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_window_admits_more_than_its_share_and_a_burst(
            per_second in 1_u32..5_000,
            gaps_us in proptest::collection::vec(0_u64..400_000, 1..400),
        ) {
            let base = Instant::now();
            let rate = Rate::new(base, per_second);
            let mut at = 0;
            let mut admitted: Vec<u64> = Vec::new();
            for gap in gaps_us {
                at += gap;
                if rate.take(base + Duration::from_micros(at)).is_ok() {
                    admitted.push(at);
                }
            }
            for (first, start) in admitted.iter().enumerate() {
                for (last, end) in admitted.iter().enumerate().skip(first) {
                    let count = u64::try_from(last - first + 1).expect("small");
                    let window_us = end - start;
                    let most = u64::from(per_second) * window_us / 1_000_000 + u64::from(per_second) + 1;
                    prop_assert!(count <= most, "{count} in {window_us} us at {per_second}/s");
                }
            }
        }

        #[test]
        fn who_waits_as_told_is_admitted(per_second in 1_u32..1_000_000) {
            let base = Instant::now();
            let rate = Rate::new(base, per_second);
            let mut admitted = 0_u32;
            let wait = loop {
                match rate.take(base) {
                    Ok(()) => admitted += 1,
                    Err(wait) => break wait,
                }
            };
            prop_assert_eq!(admitted, per_second, "the burst is one second's worth");
            prop_assert!(rate.take(base + wait).is_ok());
        }
    }

    #[test]
    fn threads_share_one_burst_exactly() {
        let base = Instant::now();
        let rate = Arc::new(Rate::new(base, 10_000));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let rate = rate.clone();
                thread::spawn(move || (0..5_000).filter(|_| rate.take(base).is_ok()).count())
            })
            .collect();
        let admitted: usize = threads.into_iter().map(|t| t.join().expect("does not panic")).sum();
        assert_eq!(admitted, 10_000);
    }
}
