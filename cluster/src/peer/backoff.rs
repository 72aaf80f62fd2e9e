use std::time::Duration;

use aesp_proto::Entropy;

use super::Timing;

/// The pauses between attempts to reach a peer: doubled each time up to a limit, half of each random.
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(timing: &Timing) -> Self {
        Self { first: timing.backoff, longest: timing.longest_backoff, failures: 0 }
    }

    /// Returns the pause before the next attempt.
    pub(super) fn pause(&mut self, entropy: &Entropy) -> Duration {
        let pause = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures += 1;
        let half = u64::try_from(pause.as_micros() / 2).unwrap_or(u64::MAX).max(1);
        pause / 2 + Duration::from_micros(entropy.below(half))
    }

    /// Starts again with the shortest pause, after a link that held.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_start_again() {
        let (mut backoff, entropy) = (Backoff::new(&Timing::default()), Entropy::from_seed(1));
        let pauses: Vec<_> = (0..40).map(|_| backoff.pause(&entropy)).collect();
        let within = |pause: Duration, whole: Duration| pause >= whole / 2 && pause <= whole;
        assert!(within(pauses[0], Duration::from_millis(50)));
        assert!(within(pauses[2], Duration::from_millis(200)));
        assert!(pauses[10..].iter().all(|pause| within(*pause, Duration::from_secs(2))));
        assert!(pauses[10..].windows(2).any(|pair| pair[0] != pair[1]), "no jitter");
        backoff.reset();
        assert!(within(backoff.pause(&entropy), Duration::from_millis(50)));
    }
}
