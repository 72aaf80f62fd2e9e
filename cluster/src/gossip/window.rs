use std::{collections::HashMap, time::Duration};

use aesp_proto::{Incarnation, Timestamp};

/// How many datagrams of one sender may overtake each other.
const WIDTH: u64 = 1_024;
const WORDS: usize = (WIDTH / 64) as usize;
/// Senders that are remembered. Only who has the secret can fill this.
const SENDERS: usize = 4_096;
/// How far a datagram's time may be from the receiver's. What is older can't be told from a replay, because a receiver remembers
/// senders no longer than that.
pub(super) const FRESH: Duration = Duration::from_secs(120);

/// Remembers what was received, so that nothing is received twice: a sliding window for each sender's incarnation.
///
/// Source: RFC 6479 (the window), RFC 4303 §3.4.3 (what it is for).
#[derive(Default)]
pub(super) struct Windows(HashMap<Incarnation, Window>);

struct Window {
    highest: u64,
    seen: [u64; WORDS],
    /// The newest time of a datagram.
    at: Timestamp,
}

impl Windows {
    /// Takes note of an authentic datagram.
    ///
    /// # Errors
    /// A constant reason why it must not be used.
    pub(super) fn accept(
        &mut self,
        now: Timestamp,
        sender: Incarnation,
        sequence: u64,
        sent: Timestamp,
    ) -> Result<(), &'static str> {
        if now.since(sent) > FRESH || sent.since(now) > FRESH {
            return Err("stale");
        }
        if !self.0.contains_key(&sender) && self.0.len() >= SENDERS {
            // Whatever these sent is stale by now, so forgetting them opens no door.
            self.0.retain(|_, window| now.since(window.at) <= 2 * FRESH);
            if self.0.len() >= SENDERS {
                return Err("too_many_senders");
            }
        }
        let window = self.0.entry(sender).or_insert(Window { highest: 0, seen: [0; WORDS], at: sent });
        window.at = window.at.max(sent);
        if window.accept(sequence) { Ok(()) } else { Err("replayed") }
    }
}

impl Window {
    fn accept(&mut self, sequence: u64) -> bool {
        // Sequences count from 1, so that 0 is never new.
        if sequence == 0 || sequence.saturating_add(WIDTH) <= self.highest {
            return false;
        }
        if sequence > self.highest {
            let passed = sequence - self.highest;
            for step in 1..=passed.min(WIDTH) {
                self.set(self.highest + step, false);
            }
            self.highest = sequence;
        }
        let new = !self.get(sequence);
        self.set(sequence, true);
        new
    }

    fn get(&self, sequence: u64) -> bool {
        let (word, bit) = place(sequence);
        self.seen[word] & bit != 0
    }

    fn set(&mut self, sequence: u64, seen: bool) {
        let (word, bit) = place(sequence);
        if seen { self.seen[word] |= bit } else { self.seen[word] &= !bit }
    }
}

fn place(sequence: u64) -> (usize, u64) {
    let place = (sequence % WIDTH) as usize;
    (place / 64, 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    proptest! {
        #[test]
        fn nothing_is_accepted_twice_and_what_is_little_late_once(
            steps in prop::collection::vec((0_u64..3, 0_u64..1_500, any::<bool>()), 1..400),
        ) {
            let (mut windows, mut accepted) = (Windows::default(), HashSet::new());
            let mut highest = [0_u64; 3];
            for (sender, distance, forward) in steps {
                let top = &mut highest[sender as usize];
                let sequence = if forward { *top + distance } else { top.saturating_sub(distance) };
                let new = windows.accept(NOW, Incarnation(sender), sequence, NOW).is_ok();
                let within = sequence + WIDTH > *top && sequence > 0;
                prop_assert_eq!(new, within && !accepted.contains(&(sender, sequence)));
                accepted.insert((sender, sequence));
                if new {
                    *top = (*top).max(sequence);
                }
            }
        }
    }

    #[test]
    fn a_sender_that_starts_again_has_a_window_of_its_own() {
        let mut windows = Windows::default();
        assert_eq!(windows.accept(NOW, Incarnation(1), 9_000, NOW), Ok(()));
        assert_eq!(windows.accept(NOW, Incarnation(2), 1, NOW), Ok(()));
        assert_eq!(windows.accept(NOW, Incarnation(1), 9_000, NOW), Err("replayed"));
        assert_eq!(windows.accept(NOW, Incarnation(1), 8_999, NOW), Ok(()));
    }

    #[test]
    fn times_far_from_now_are_stale_in_both_directions() {
        let mut windows = Windows::default();
        let hour = Duration::from_secs(3_600);
        assert_eq!(windows.accept(NOW.plus(hour), Incarnation(1), 1, NOW), Err("stale"));
        assert_eq!(windows.accept(NOW, Incarnation(1), 1, NOW.plus(hour)), Err("stale"));
        assert_eq!(windows.accept(NOW, Incarnation(1), 1, NOW.plus(FRESH)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_frees_itself() {
        let mut windows = Windows::default();
        for sender in 0..SENDERS as u64 {
            assert_eq!(windows.accept(NOW, Incarnation(sender), 1, NOW), Ok(()));
        }
        assert_eq!(windows.accept(NOW, Incarnation(5_000), 1, NOW), Err("too_many_senders"));
        let later = NOW.plus(3 * FRESH);
        assert_eq!(windows.accept(later, Incarnation(5_000), 1, later), Ok(()));
        assert_eq!(windows.0.len(), 1);
    }
}
