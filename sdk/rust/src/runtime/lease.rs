//! Whether the Host at the other end can be believed to be itself still. No I/O, no clock.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

const ECHO: Duration = Duration::from_secs(1);
/// So many unanswered heartbeats are remembered.
const ASKED: usize = 64;

/// Watches a link for silence. After more of it than what was left of the node's lease, the sender may have been frozen, and
/// another node may have taken over what it owned: no call begins until it has answered a heartbeat that was sent after the
/// silence. Frames say what is left; of a node whose frames don't, it is the whole lease.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    heard: Instant,
    /// How long a silence may be that begins when a frame was heard last; any, if nothing is known of a lease.
    allowed: Option<Duration>,
    /// Our sequences are `first..next`, far from those that a Host would count from 0.
    first: u64,
    next: u64,
    /// Our heartbeats that were not answered, and when they were sent.
    asked: VecDeque<(u64, Instant)>,
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
    /// `length` of zero stands for a node that says nothing about a lease: it is never doubted. `random` makes our sequences
    /// our own.
    pub(crate) fn new(length: Duration, now: Instant, random: u64) -> Self {
        let first = (1 << 62) | (random >> 3);
        let allowed = (!length.is_zero()).then_some(length);
        Self {
            length,
            heard: now,
            allowed,
            first,
            next: first,
            asked: VecDeque::new(),
            doubt: None,
            answered: None,
        }
    }

    /// Notes that something arrived that is no answer to a heartbeat of ours, and what it says is left of the node's lease;
    /// returns whether that raised doubt, so that a heartbeat must be sent.
    pub(crate) fn hear(&mut self, now: Instant, left: Option<Duration>) -> bool {
        let was_silent = self.allowed.is_some_and(|allowed| self.silence(now) > allowed);
        let is_lost = left.is_some_and(|left| left.is_zero());
        self.heard = now;
        self.allowed = self.at_most(left);
        let asks = was_silent || (is_lost && self.doubt.is_none());
        if was_silent || is_lost {
            self.doubt = Some(self.next);
        }
        asks
    }

    /// Returns what is left of the lease, which can't be more than its length; nothing if neither is known.
    fn at_most(&self, left: Option<Duration>) -> Option<Duration> {
        match left {
            Some(left) if self.length.is_zero() => Some(left),
            Some(left) => Some(left.min(self.length)),
            None => (!self.length.is_zero()).then_some(self.length),
        }
    }

    /// Tells whether a heartbeat with this sequence is an answer to one of ours.
    pub(crate) fn is_own(&self, sequence: u64) -> bool {
        (self.first..self.next).contains(&sequence)
    }

    /// Returns the length of the lease.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Returns how long nothing arrived.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// Returns whether no call may begin.
    pub(crate) fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Returns the sequence of the next heartbeat to send.
    pub(crate) fn ask(&mut self, now: Instant) -> u64 {
        let sequence = self.next;
        self.next += 1;
        if self.asked.len() >= ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back((sequence, now));
        sequence
    }

    /// Takes a heartbeat of the Host, and what it says is left of the node's lease. The same question is answered once a second at most: were it our own answer coming
    /// back, it would go back and forth for ever.
    pub(crate) fn beat(&mut self, now: Instant, sequence: u64, left: Option<Duration>) -> Beat {
        if self.is_own(sequence) {
            self.answer(now, sequence, left);
            return Beat::Answer;
        }
        let again = |(last, at): (u64, Instant)| last == sequence && now.saturating_duration_since(at) < ECHO;
        if self.answered.is_some_and(again) {
            return Beat::Echo;
        }
        self.answered = Some((sequence, now));
        Beat::Question
    }

    /// Takes the answer to a heartbeat of ours. The node said what is left after we asked, so it lasts from then on at least,
    /// however long the answer was on its way.
    fn answer(&mut self, now: Instant, sequence: u64, left: Option<Duration>) {
        self.heard = now;
        let Some(place) = self.asked.iter().position(|(asked, _)| *asked == sequence) else { return };
        let (_, asked_at) = self.asked[place];
        self.asked.drain(..=place);
        let Some(left) = self.at_most(left) else { return };
        match (asked_at + left).checked_duration_since(now).filter(|rest| !rest.is_zero()) {
            Some(rest) => {
                self.allowed = Some(rest);
                if self.doubt.is_some_and(|since| sequence >= since) {
                    self.doubt = None;
                }
            }
            None => {
                self.allowed = Some(Duration::ZERO);
                self.doubt.get_or_insert(self.next);
            }
        }
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
        let before = lease.ask(start);
        assert!(!lease.hear(start + LEASE, None), "a lease of silence is allowed");
        let late = start + LEASE * 2 + Duration::from_millis(1);
        assert!(lease.hear(late, None));
        let after = lease.ask(late);
        // What was on its way while the sender was frozen proves nothing.
        assert_eq!(lease.beat(late, before, None), Beat::Answer);
        assert_eq!(lease.beat(late, 1, None), Beat::Question);
        assert!(lease.in_doubt());
        assert_eq!(lease.beat(late, after, None), Beat::Answer);
        assert!(!lease.in_doubt());
    }

    #[test]
    fn answers_never_go_back_and_forth() {
        let start = Instant::now();
        let mut lease = Lease::new(LEASE, start, 0);
        assert_eq!(lease.beat(start, 0, None), Beat::Question);
        assert_eq!(
            lease.beat(start, 0, None),
            Beat::Echo,
            "a Host that echoes everything gets no second answer"
        );
        assert_eq!(lease.beat(start, 1, None), Beat::Question);
        assert_eq!(lease.beat(start + ECHO, 1, None), Beat::Question, "a Host may ask the same again");
    }

    #[test]
    fn what_is_left_of_the_lease_is_how_long_silence_may_last() {
        let start = Instant::now();
        let mut lease = Lease::new(LEASE, start, 0);
        let second = Duration::from_secs(1);
        assert!(!lease.hear(start, Some(second)));
        assert!(!lease.hear(start + second, Some(second)));
        let late = start + second * 2 + Duration::from_millis(1);
        assert!(lease.hear(late, Some(LEASE)), "it was silent for as long as it had");
        let asked = lease.ask(late);
        assert!(lease.in_doubt());
        assert_eq!(lease.beat(late, asked, Some(LEASE)), Beat::Answer);
        assert!(!lease.in_doubt());
        assert!(!lease.hear(late + second * 2, Some(LEASE * 100)), "no longer than the node's lease can be");
        assert!(lease.hear(late + second * 2 + LEASE * 2, Some(LEASE)));
    }

    #[test]
    fn a_node_that_lost_its_lease_is_doubted_until_it_has_one() {
        let start = Instant::now();
        let mut lease = Lease::new(LEASE, start, 0);
        assert!(lease.hear(start, Some(Duration::ZERO)));
        let asked = lease.ask(start);
        assert!(!lease.hear(start, Some(Duration::ZERO)), "one question is enough");
        assert_eq!(lease.beat(start, asked, Some(Duration::ZERO)), Beat::Answer);
        assert!(lease.in_doubt(), "the answer says that nothing is left");
        let again = lease.ask(start);
        assert_eq!(lease.beat(start, again, Some(LEASE)), Beat::Answer);
        assert!(!lease.in_doubt());
    }

    #[test]
    fn an_answer_is_worth_what_was_left_when_it_was_asked_for() {
        let start = Instant::now();
        let mut lease = Lease::new(LEASE, start, 0);
        let asked = lease.ask(start);
        let late = start + LEASE * 2;
        lease.beat(late, asked, Some(LEASE));
        assert!(lease.in_doubt(), "it may have been frozen with the answer in its hands");
        let (prompt, at) = (lease.ask(late), late + Duration::from_secs(1));
        lease.beat(at, prompt, Some(LEASE));
        assert!(!lease.in_doubt());
        assert!(lease.hear(at + LEASE, Some(LEASE)), "a second of it was over when the answer came");
    }

    #[test]
    fn a_node_without_a_lease_is_never_doubted() {
        let start = Instant::now();
        let mut lease = Lease::new(Duration::ZERO, start, 0);
        assert!(!lease.hear(start + LEASE * 100, None));
    }
}
