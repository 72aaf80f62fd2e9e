use std::time::Duration;

use tokio::time::Instant;

/// What a frame that violates the protocol costs.
pub(crate) const GARBAGE: u32 = 100;
/// What a valid frame costs that makes the Host look things up.
pub(crate) const LOOKUP: u32 = 20;
/// What a valid frame costs that is of no use: a repeated or unknown result, a heartbeat.
pub(crate) const NOISE: u32 = 1;

/// A leaky bucket of violations. A Runtime that misbehaves now and then is told so; one that floods is cut off.
#[derive(Debug)]
pub(crate) struct Penalty {
    capacity: u32,
    leak_per_second: u32,
    level: u32,
    at: Instant,
}

impl Penalty {
    pub(crate) fn new(capacity: u32, leak_per_second: u32, now: Instant) -> Self {
        Self { capacity, leak_per_second, level: 0, at: now }
    }

    /// Adds the points, and tells whether the bucket has overflown.
    pub(crate) fn charge(&mut self, now: Instant, points: u32) -> bool {
        let seconds = now.saturating_duration_since(self.at).as_secs();
        let leaked = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(self.leak_per_second);
        if leaked > 0 {
            self.level = self.level.saturating_sub(leaked);
            self.at += Duration::from_secs(seconds);
        }
        self.level = self.level.saturating_add(points);
        self.level > self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_overflows_and_a_trickle_does_not() {
        let start = Instant::now();
        let mut flooded = Penalty::new(1_000, 100, start);
        assert_eq!((0..11).filter(|_| flooded.charge(start, GARBAGE)).count(), 1);
        let mut trickled = Penalty::new(1_000, 100, start);
        assert!(!(0..1_000).any(|second| trickled.charge(start + Duration::from_secs(second), GARBAGE)));
    }
}
