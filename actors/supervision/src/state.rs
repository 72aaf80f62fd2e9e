use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::restart::{PARK_PAUSE, PARK_PAUSE_MAX, RESTART_PAUSE, RESTART_PAUSE_MAX, Restart};

/// What a supervisor does about a child that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again after the pause.
    Restart(Duration),
    /// It crashed too often.
    Escalate,
}

/// Why a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It failed, panicked or stopped by itself.
    Crashed,
    /// What it depends on is away.
    Unavailable,
}

/// A child's recent ends, and the decision what to do after the next.
#[derive(Debug)]
pub(crate) struct History {
    restart: Restart,
    crashes: VecDeque<Instant>,
    parked: u32,
}

impl History {
    pub(crate) fn new(restart: Restart) -> Self {
        Self { restart, crashes: VecDeque::new(), parked: 0 }
    }

    /// The child runs: the next outage starts with the shortest pause.
    pub(crate) fn started(&mut self) {
        self.parked = 0;
    }

    /// The child ended at `now`.
    pub(crate) fn ended(&mut self, now: Instant, end: End) -> Verdict {
        match end {
            End::Unavailable => {
                self.parked = self.parked.saturating_add(1);
                Verdict::Restart(doubled(PARK_PAUSE, self.parked, PARK_PAUSE_MAX))
            }
            End::Crashed => {
                self.crashes.push_back(now);
                while self.crashes.front().is_some_and(|at| now.duration_since(*at) >= self.restart.within) {
                    self.crashes.pop_front();
                }
                let crashes = u32::try_from(self.crashes.len()).unwrap_or(u32::MAX);
                if crashes > self.restart.intensity {
                    return Verdict::Escalate;
                }
                Verdict::Restart(doubled(RESTART_PAUSE, crashes, RESTART_PAUSE_MAX))
            }
        }
    }
}

/// Returns `first` doubled `times - 1` times, at most `max`.
fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1))).min(max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RESTART: Restart = Restart { intensity: 3, within: Duration::from_secs(10) };

    proptest! {
        #[test]
        fn escalates_exactly_when_a_window_holds_more_crashes_than_the_intensity(
            gaps in proptest::collection::vec(0_u64..8_000, 1..60),
        ) {
            let mut history = History::new(RESTART);
            let start = Instant::now();
            let mut elapsed = 0;
            let mut crashes: Vec<u64> = Vec::new();
            for gap in gaps {
                elapsed += gap;
                crashes.push(elapsed);
                let in_window = crashes.iter().filter(|at| elapsed - **at < 10_000).count();
                let verdict = history.ended(start + Duration::from_millis(elapsed), End::Crashed);
                prop_assert_eq!(verdict == Verdict::Escalate, in_window > 3);
            }
        }

        #[test]
        fn an_outage_of_any_length_never_escalates(times in 1_u32..200) {
            let mut history = History::new(RESTART);
            let now = Instant::now();
            for _ in 0..times {
                let verdict = history.ended(now, End::Unavailable);
                let Verdict::Restart(pause) = verdict else { panic!("escalated an outage") };
                prop_assert!(pause <= PARK_PAUSE_MAX);
            }
            history.started();
            prop_assert_eq!(history.ended(now, End::Unavailable), Verdict::Restart(PARK_PAUSE));
        }
    }
}
