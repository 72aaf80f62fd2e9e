use std::time::Duration;

/// How this node's clock stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skew {
    ms: i64,
    /// Whether that is too much to serve.
    pub(crate) off: bool,
    /// Since when a clock that was off is right.
    right_since: Option<Duration>,
}

impl Skew {
    /// Judges a clock that is `ms` off the others' at `now`. One that was off serves again when it has been well within `limit` for a
    /// lease: a clock that comes and goes must not move shards away and back all the time.
    pub(crate) fn judged(self, ms: i64, limit: Duration, now: Duration, lease: Duration) -> Self {
        let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        let distance = ms.saturating_abs();
        if !self.off {
            return Self { ms, off: distance > limit, right_since: None };
        }
        if distance > limit / 4 * 3 {
            return Self { ms, off: true, right_since: None };
        }
        let since = self.right_since.unwrap_or(now);
        if now.saturating_sub(since) < lease {
            return Self { ms, off: true, right_since: Some(since) };
        }
        Self { ms, off: false, right_since: None }
    }

    /// Returns why the node does not serve, if it is for its clock.
    pub(crate) fn trouble(self) -> Option<String> {
        match self.right_since {
            _ if !self.off => None,
            None => Some(format!("the clock is {} ms off the cluster's; synchronise it", self.ms)),
            Some(_) => Some(
                "the clock was off; the node serves when it has been right for the time of a lease".into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);
    const LEASE: Duration = Duration::from_secs(2);

    fn after(readings: &[(u64, i64)]) -> Vec<bool> {
        let mut skew = Skew::default();
        let judge = |&(at_ms, ms): &(u64, i64)| {
            skew = skew.judged(ms, LIMIT, Duration::from_millis(at_ms), LEASE);
            skew.off
        };
        readings.iter().map(judge).collect()
    }

    #[test]
    fn a_clock_is_off_at_once_and_right_after_a_lease() {
        let readings = [(0, 900), (100, -1_001), (200, 0), (2_100, 10), (2_200, 10), (2_300, 900)];
        assert_eq!(after(&readings), [false, true, true, true, false, false]);
    }

    #[test]
    fn what_comes_and_goes_stays_off() {
        let readings = [(0, 5_000), (500, 0), (2_000, 800), (2_600, 0), (4_500, 0), (4_600, 0)];
        assert_eq!(after(&readings), [true, true, true, true, true, false]);
    }
}
