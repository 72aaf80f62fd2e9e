use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use aesp_proto::{Incarnation, Timestamp};

/// How many readings of a clock are kept: a few seconds of them, so that one that came late does no harm and a step is noticed
/// soon.
const READINGS: usize = 8;

/// Compares wall clocks, which are read in the rows of renewals. A reading is old when it is seen, nobody knows how old; so the
/// latest of the last few counts, corrected for the time since it was seen.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// What each clock showed, less the observer's steady time when it was seen, in milliseconds.
    readings: BTreeMap<Incarnation, VecDeque<i64>>,
}

impl Clocks {
    /// Notes that a node's clock showed `wall` in a renewal that was new at `now` of the steady clock.
    pub(crate) fn read(&mut self, node: Incarnation, wall: Timestamp, now: Duration) {
        let readings = self.readings.entry(node).or_default();
        if readings.len() == READINGS {
            readings.pop_front();
        }
        readings.push_back(wall.0.saturating_sub(millis(now)));
    }

    /// Forgets nodes that have no row any more.
    pub(crate) fn retain(&mut self, lives: impl Fn(Incarnation) -> bool) {
        self.readings.retain(|node, _| lives(*node));
    }

    /// Tells whether a node's clock has been read.
    pub(crate) fn knows(&self, node: Incarnation) -> bool {
        self.readings.contains_key(&node)
    }

    /// Returns how far a node's clock is ahead of this one, which shows `wall` at `now`.
    pub(crate) fn ahead_ms(&self, node: Incarnation, wall: Timestamp, now: Duration) -> Option<i64> {
        let own = wall.0.saturating_sub(millis(now));
        self.readings.get(&node)?.iter().max().map(|reading| reading.saturating_sub(own))
    }

    /// Returns how far the median of the members' clocks is ahead of this one; zero if there are none. `own` counts this node
    /// among them.
    pub(crate) fn median_ms(
        &self,
        members: impl Iterator<Item = Incarnation>,
        own: bool,
        wall: Timestamp,
        now: Duration,
    ) -> i64 {
        let mut ahead: Vec<i64> = members.filter_map(|node| self.ahead_ms(node, wall, now)).collect();
        if own {
            ahead.push(0);
        }
        ahead.sort_unstable();
        match (ahead.len(), ahead.len() / 2) {
            (0, _) => 0,
            (length, middle) if length % 2 == 1 => ahead[middle],
            (_, middle) => i64::midpoint(ahead[middle - 1], ahead[middle]),
        }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn nodes(n: u64) -> impl Iterator<Item = Incarnation> {
        (1..=n).map(Incarnation)
    }

    #[test]
    fn readings_that_come_late_do_no_harm() {
        let mut clocks = Clocks::default();
        // The clocks agree: steady 1,000 is wall 501,000. The renewals are seen 400, 50 and 900 ms late.
        for (wall, seen) in [(501_000, 1_400), (501_500, 1_550), (502_000, 2_900)] {
            clocks.read(Incarnation(1), Timestamp(wall), at(seen));
        }
        assert_eq!(clocks.ahead_ms(Incarnation(1), Timestamp(503_000), at(3_000)), Some(-50));
        // This clock steps back by two seconds: at once the other one is ahead.
        assert_eq!(clocks.ahead_ms(Incarnation(1), Timestamp(501_000), at(3_000)), Some(1_950));
    }

    #[test]
    fn a_step_is_noticed_when_the_old_readings_are_gone() {
        let mut clocks = Clocks::default();
        for beat in 0..16_i64 {
            let step = if beat < 8 { 0 } else { -7_200_000 };
            let now = 500 * beat.unsigned_abs();
            clocks.read(Incarnation(1), Timestamp(9_000_000 + 500 * beat + step), at(now));
        }
        assert_eq!(clocks.ahead_ms(Incarnation(1), Timestamp(9_008_000), at(8_000)), Some(-7_200_000));
    }

    #[test]
    fn the_median_is_that_of_the_members() {
        let mut clocks = Clocks::default();
        let (wall, now) = (Timestamp(100_000), at(0));
        assert_eq!(clocks.median_ms(nodes(3), true, wall, now), 0);
        for (node, ahead) in [(1, 10), (2, 3_600_000), (3, -20)] {
            clocks.read(Incarnation(node), Timestamp(100_000 + ahead), now);
        }
        assert_eq!(clocks.median_ms(nodes(3), false, wall, now), 10);
        assert_eq!(clocks.median_ms(nodes(3), true, wall, now), 5);
        assert_eq!(clocks.median_ms(nodes(1), true, wall, now), 5, "of two, nobody knows which is right");
        // One that is hours off sees it of itself.
        let own = Timestamp(100_000 + 3_600_000);
        assert_eq!(clocks.median_ms([1, 3].map(Incarnation).into_iter(), true, own, now), -3_599_990);
    }
}
