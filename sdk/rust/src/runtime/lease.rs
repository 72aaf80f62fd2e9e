//! Whether the Host at the other end can be believed to be itself still. No I/O, no clock.

use std::time::Duration;

use tokio::time::Instant;

const ECHO: Duration = Duration::from_secs(1);

/// Watches a link for silence. After more than a lease of it the sender may have been frozen, and another node may have
/// taken over what it owned: calls are refused until it has answered a heartbeat that was sent after the silence.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    heard: Instant,
    /// Our sequences are `first..next`, far from those that a Host would count from 0.
    first: u64,
    next: u64,
    /// The first sequence whose answer ends the doubt.
    doubt: Option<u64>,
    /// The Host's question that was answered last, and when.
    answered: Option<(u64, Instant)>,
}

/// What a heartbeat of the Host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The answer to one of ours.
    Answer,
    /// A question: send it back.
    Question,
    /// An echo of our own answer.
    Echo,
}

impl Lease {
    /// `length` of zero stands for a node without a lease: it is never doubted. `random` makes our sequences our own.
    pub(crate) fn new(length: Duration, now: Instant, random: u64) -> Self {
        let first = (1 << 62) | (random >> 3);
        Self { length, heard: now, first, next: first, doubt: None, answered: None }
    }

    /// Notes that something arrived; returns whether that raised doubt, so that a heartbeat must be sent.
    pub(crate) fn hear(&mut self, now: Instant) -> bool {
        let silent = self.silence(now);
        self.heard = now;
        if self.length.is_zero() || silent <= self.length {
            return false;
        }
        self.doubt = Some(self.next);
        true
    }

    /// Returns the length of the lease.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Returns how long nothing arrived.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// Returns whether calls must be refused.
    pub(crate) fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Returns the sequence of the next heartbeat to send.
    pub(crate) fn ask(&mut self) -> u64 {
        let sequence = self.next;
        self.next += 1;
        sequence
    }

    /// Takes a heartbeat of the Host. The same question is answered once a second at most: were it our own answer coming
    /// back, it would go back and forth for ever.
    pub(crate) fn beat(&mut self, now: Instant, sequence: u64) -> Beat {
        if (self.first..self.next).contains(&sequence) {
            if self.doubt.is_some_and(|since| sequence >= since) {
                self.doubt = None;
            }
            return Beat::Answer;
        }
        let again = |(last, at): (u64, Instant)| last == sequence && now.saturating_duration_since(at) < ECHO;
        if self.answered.is_some_and(again) {
            return Beat::Echo;
        }
        self.answered = Some((sequence, now));
        Beat::Question
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);

    #[test]
    fn only_an_answer_to_a_later_heartbeat_ends_the_doubt() {
        let start = Instant::now();
        let mut lease = Lease::new(LEASE, start, 77);
        let before = lease.ask();
        assert!(!lease.hear(start + LEASE), "a lease of silence is allowed");
        let late = start + LEASE * 2 + Duration::from_millis(1);
        assert!(lease.hear(late));
        let after = lease.ask();
        // What was on its way while the sender was frozen proves nothing.
        assert_eq!(lease.beat(late, before), Beat::Answer);
        assert_eq!(lease.beat(late, 1), Beat::Question);
        assert!(lease.in_doubt());
        assert_eq!(lease.beat(late, after), Beat::Answer);
        assert!(!lease.in_doubt());
    }

    #[test]
    fn answers_never_go_back_and_forth() {
        let start = Instant::now();
        let mut lease = Lease::new(LEASE, start, 0);
        assert_eq!(lease.beat(start, 0), Beat::Question);
        assert_eq!(lease.beat(start, 0), Beat::Echo, "a Host that echoes everything gets no second answer");
        assert_eq!(lease.beat(start, 1), Beat::Question);
        assert_eq!(lease.beat(start + ECHO, 1), Beat::Question, "a Host may ask the same again");
    }

    #[test]
    fn a_node_without_a_lease_is_never_doubted() {
        let start = Instant::now();
        let mut lease = Lease::new(Duration::ZERO, start, 0);
        assert!(!lease.hear(start + LEASE * 100));
    }
}
