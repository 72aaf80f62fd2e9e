use std::time::Duration;

/// How long somebody who failed is left alone: twice as long after each failure, and somewhere between a half of that and all of it, so
/// that nodes that failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

/// Who asks for more time than that is asked again all the same.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

impl Backoff {
    /// Begins with this pause after a first failure, and never waits longer than the other.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Counts a failure and returns the pause. `jitter` is from 0 up to 1; what they asked for themselves is not undercut.
    pub fn fail(&mut self, jitter: f64, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        pause.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_respect_what_was_asked() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let pauses: Vec<_> = (0..8).map(|_| backoff.fail(1.0, None).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.fail(0.0, None), Duration::from_secs(30));
        assert_eq!(backoff.fail(0.0, Some(Duration::from_secs(90))), Duration::from_secs(90));
        assert_eq!(backoff.fail(0.0, Some(Duration::MAX)), LONGEST_ASKED);
        backoff.reset();
        assert_eq!(backoff.fail(0.0, None), Duration::from_millis(500));
    }
}
