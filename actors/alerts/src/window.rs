//! Counts over a sliding window, in slots. Pure.

use aesp_proto::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Wait;

/// Into so many slots a window is divided at the most: a count forgets by a slot at a time.
const SLOTS: i64 = 30;

/// How long a window is, and in what slots it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    width_ms: i64,
    slots: i64,
}

impl Window {
    pub(crate) fn new(window: Wait) -> Self {
        let ms = window.ms().max(1);
        let width_ms = (ms + SLOTS - 1) / SLOTS;
        Self { width_ms, slots: (ms + width_ms - 1) / width_ms }
    }

    /// Returns how long the window is, with the part of a slot by which it is longer than it was asked to be.
    pub(crate) fn length_ms(self) -> i64 {
        self.width_ms * self.slots
    }

    fn slot(self, at: Timestamp) -> i64 {
        at.0.div_euclid(self.width_ms)
    }

    /// Returns the first slot that counts at `now`.
    fn oldest(self, now: Timestamp) -> i64 {
        self.slot(now) - self.slots + 1
    }
}

/// What was counted, by slot, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counts(Vec<(i64, u64)>);

impl Counts {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts what happened at `at`, unless that is over at `now`.
    pub(crate) fn add(&mut self, window: Window, now: Timestamp, at: Timestamp, count: u64) {
        let slot = window.slot(at.min(now));
        if slot < window.oldest(now) {
            return;
        }
        match self.0.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(place) => self.0[place].1 = self.0[place].1.saturating_add(count),
            Err(place) => self.0.insert(place, (slot, count)),
        }
    }

    /// Forgets what is over.
    pub(crate) fn prune(&mut self, window: Window, now: Timestamp) {
        let over = self.0.partition_point(|(slot, _)| *slot < window.oldest(now));
        self.0.drain(..over);
    }

    /// Returns the sum; what is over was pruned.
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Returns when the oldest count is over.
    pub(crate) fn next_over(&self, window: Window) -> Option<Timestamp> {
        self.0.first().map(|(slot, _)| Timestamp((slot + window.slots).saturating_mul(window.width_ms)))
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_is_at_most_a_slot_longer_than_asked() {
        for ms in [1, 2, 29, 30, 31, 1_000, 59_999, 3_600_000] {
            let window = Window::new(Wait(Duration::from_millis(ms)));
            let ms = i64::try_from(ms).unwrap();
            assert!(
                window.length_ms() >= ms && window.length_ms() < ms + window.width_ms,
                "{ms}: {window:?}"
            );
            assert!(window.slots <= SLOTS);
        }
    }

    proptest! {
        #[test]
        fn a_count_is_that_of_the_events_within(
            ms in 1_u64..100,
            events in prop::collection::vec((0_i64..30, 0_i64..20, 1_u64..5), 1..60),
        ) {
            let window = Window::new(Wait(Duration::from_millis(ms)));
            let (mut counts, mut now, mut all) = (Counts::default(), 1_000, Vec::new());
            for (step, late, count) in events {
                now += step;
                let at = now - late;
                all.push((at, count));
                counts.add(window, Timestamp(now), Timestamp(at), count);
                counts.prune(window, Timestamp(now));
                let first = window.oldest(Timestamp(now)) * window.width_ms;
                let expected: u64 = all.iter().filter(|(at, _)| *at >= first).map(|(_, count)| count).sum();
                prop_assert_eq!(counts.sum(), expected);
                if let Some(over) = counts.next_over(window) {
                    let (mut before, mut after) = (counts.clone(), counts.clone());
                    before.prune(window, Timestamp(over.0 - 1));
                    after.prune(window, over);
                    prop_assert!(over.0 > now && before == counts && after != counts);
                }
            }
        }
    }
}
