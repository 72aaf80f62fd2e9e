use std::time::Duration;

use aesp_proto::{Entropy, Error};
use tonic::{Code, Status};

/// How often, and how patiently, a request that may be repeated is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// How often a request is sent at most, the first time included. 1 never repeats.
    pub attempts: u32,
    /// The pause before the second attempt; doubled for each further one.
    pub base: Duration,
    /// The longest pause. When the Host asks for a longer one, its refusal is returned instead.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, base: Duration::from_millis(100), longest: Duration::from_secs(5) }
    }
}

impl Retry {
    /// Never repeats.
    pub const NEVER: Self = Self { attempts: 1, base: Duration::ZERO, longest: Duration::ZERO };

    /// Returns the pause after the failed attempt number `attempt` (from 1), with jitter; none when that was the last.
    pub(crate) fn pause(&self, attempt: u32, error: &Error, entropy: &Entropy) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let own = backoff(self.base, self.longest, attempt, entropy);
        match error.retry_delay() {
            Some(asked) if asked > self.longest => None,
            Some(asked) => Some(own.max(asked + own / 4)),
            None => Some(own),
        }
    }
}

/// Returns between half and all of `base · 2^(attempt − 1)`, at most `longest`.
pub(crate) fn backoff(base: Duration, longest: Duration, attempt: u32, entropy: &Entropy) -> Duration {
    let full = base.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(longest);
    let half = full / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
    half + Duration::from_micros(entropy.below(spread.saturating_add(1).max(1)))
}

/// Tells whether the request that was answered by `status` may succeed when it is sent again, unchanged.
pub(crate) fn worth_repeating(status: &Status, error: &Error) -> bool {
    // A status without our details reads as TRANSPORT_ERROR; these codes say that the request itself is at fault.
    let hopeless = status.details().is_empty()
        && matches!(
            status.code(),
            Code::Unimplemented
                | Code::InvalidArgument
                | Code::OutOfRange
                | Code::NotFound
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::ResourceExhausted
        );
    error.is_retryable() && !hopeless
}

#[cfg(test)]
mod tests {
    use aesp_proto::ErrorCode;

    use super::*;

    #[test]
    fn pauses_grow_within_bounds_and_honour_the_host() {
        let entropy = Entropy::from_seed(7);
        let retry = Retry::default();
        let busy = Error::new(ErrorCode::ServiceUnavailable, "busy");
        for attempt in 1..retry.attempts {
            let full = retry.base * (1 << (attempt - 1));
            let pause = retry.pause(attempt, &busy, &entropy).expect("not the last");
            assert!(pause >= full / 2 && pause <= full, "{attempt}: {pause:?}");
        }
        assert!(retry.pause(retry.attempts, &busy, &entropy).is_none());
        let asked = busy.retry_after(Duration::from_secs(2));
        assert!(retry.pause(1, &asked, &entropy).expect("short enough") >= Duration::from_secs(2));
        let long = asked.retry_after(Duration::from_secs(60));
        assert!(retry.pause(1, &long, &entropy).is_none());
    }

    #[test]
    fn a_refusal_without_details_is_not_repeated() {
        let status = Status::unimplemented("no such method");
        assert!(!worth_repeating(&status, &Error::from_status(&status)));
        let status = Status::unavailable("gone");
        assert!(worth_repeating(&status, &Error::from_status(&status)));
    }
}
