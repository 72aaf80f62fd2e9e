use std::time::Duration;

const SECOND_NS: u64 = 1_000_000_000;

/// How many calls of a tenant may start, over the whole cluster: a rate, with a burst of one second's worth.
///
/// Source: the generic cell rate algorithm in its virtual scheduling form, ITU-T I.371.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// When the next start is due in theory, in nanoseconds of the clock that `now` is of.
    due_ns: u64,
}

impl Bucket {
    pub(crate) fn full() -> Self {
        Self { due_ns: 0 }
    }

    /// Creates one that has nothing to give before `now`.
    pub(crate) fn empty(rate: u32, now: Duration) -> Self {
        let burst = terms(rate).map_or(0, |(_, burst)| burst);
        Self { due_ns: nanos(now).saturating_add(burst) }
    }

    /// Returns how many may start now.
    pub(crate) fn available(&self, rate: u32, now: Duration) -> u32 {
        let Some((interval, burst)) = terms(rate) else { return 0 };
        let ahead = self.due_ns.saturating_sub(nanos(now));
        u32::try_from(burst.saturating_sub(ahead) / interval).unwrap_or(u32::MAX)
    }

    /// Takes so many, which must be available.
    pub(crate) fn take(&mut self, rate: u32, count: u32, now: Duration) {
        let Some((interval, _)) = terms(rate) else { return };
        self.due_ns = self.due_ns.max(nanos(now)).saturating_add(interval * u64::from(count));
    }

    /// Takes back so many that were not used.
    pub(crate) fn give(&mut self, rate: u32, count: u32) {
        let Some((interval, _)) = terms(rate) else { return };
        self.due_ns = self.due_ns.saturating_sub(interval * u64::from(count));
    }

    /// Returns when one is available again.
    pub(crate) fn wait(&self, rate: u32, now: Duration) -> Duration {
        let Some((interval, burst)) = terms(rate) else { return Duration::from_secs(1) };
        let ahead = self.due_ns.saturating_sub(nanos(now));
        Duration::from_nanos((ahead + interval).saturating_sub(burst))
    }
}

/// Returns the time between two starts, rounded up so that never more are admitted than the quota says, and that of a burst.
fn terms(rate: u32) -> Option<(u64, u64)> {
    let rate = u64::from(rate);
    let interval = SECOND_NS.div_ceil(Some(rate).filter(|rate| *rate > 0)?);
    Some((interval, interval * rate))
}

fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_window_admits_more_than_its_share_and_a_burst(
            rate in 1_u32..5_000,
            empty in any::<bool>(),
            steps in proptest::collection::vec((0_u64..400_000, 0_u32..50, 0_u32..10), 1..200),
        ) {
            let mut at = 1_000_000;
            let start = Duration::from_micros(at);
            let mut bucket = if empty { Bucket::empty(rate, start) } else { Bucket::full() };
            let mut taken: Vec<(u64, i64)> = Vec::new();
            for (gap, count, back) in steps {
                at += gap;
                let now = Duration::from_micros(at);
                let count = count.min(bucket.available(rate, now));
                bucket.take(rate, count, now);
                let back = back.min(count);
                bucket.give(rate, back);
                taken.push((at, i64::from(count) - i64::from(back)));
            }
            for (first, (start, _)) in taken.iter().enumerate() {
                let mut count = 0;
                for (end, more) in taken.iter().skip(first) {
                    count += more;
                    let window = (end - start) as i64;
                    let most = i64::from(rate) * window / 1_000_000 + i64::from(rate) + 1;
                    prop_assert!(count <= most, "{count} in {window} us at {rate}/s");
                }
            }
        }

        #[test]
        fn who_waits_as_told_is_admitted(rate in 1_u32..1_000_000, empty in any::<bool>()) {
            let now = Duration::from_secs(5);
            let mut bucket = if empty { Bucket::empty(rate, now) } else { Bucket::full() };
            let available = bucket.available(rate, now);
            prop_assert_eq!(available, if empty { 0 } else { rate }, "the burst is one second's worth");
            bucket.take(rate, available, now);
            prop_assert_eq!(bucket.available(rate, now), 0);
            let wait = bucket.wait(rate, now);
            prop_assert!(bucket.available(rate, now + wait) >= 1);
        }
    }
}
