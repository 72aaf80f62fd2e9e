//! What an export shows of a time range: how many events are in it, and how far it is proven that the log had no others.

use aesp_proto::{EventId, Timestamp};

/// A range of times, from `start` on and before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// Its first moment.
    pub start: Timestamp,
    /// The moment after its last; nothing if it has no end.
    pub end: Option<Timestamp>,
}

/// Where an event stands, for people to look it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The event.
    pub event: EventId,
    /// Its time.
    pub at: Timestamp,
    /// The log epoch of its tree.
    pub log_epoch: u32,
    /// Its leaf, counted from 0.
    pub leaf: u64,
}

/// What a good export shows of a time range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeReport {
    /// Which range.
    pub range: TimeRange,
    /// Events in it.
    pub events: u64,
    /// How many of them checkpoints cover.
    pub sealed_events: u64,
    /// The first and the last of them.
    pub first_last: Option<(Witness, Witness)>,
    /// The event of an earlier time next before them in the log.
    pub before: Option<Witness>,
    /// The sealed event of a later time next behind them.
    pub behind: Option<Witness>,
    /// Nothing before the export can be in the range, but for an event that was written out of the order of time by more than this;
    /// nothing if the export begins where the log does.
    pub margin_before_ms: Option<i64>,
    /// Nothing behind the last checkpoint can be, with the same exception; nothing if that is not shown at all.
    pub margin_behind_ms: Option<i64>,
    /// What is not proven. Empty: these events are all of the range that the log has.
    pub not_proven: Vec<String>,
}

impl TimeRange {
    /// Tells whether a time is in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }

    /// Tells whether all of it is in another.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let ends = match (self.end, other.end) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(other)) => own <= other,
        };
        other.start <= self.start && ends
    }

    fn is_before(&self, at: Timestamp) -> bool {
        self.end.is_some_and(|end| end <= at)
    }
}

/// A range as the events are read.
pub(crate) struct RangeCheck {
    range: TimeRange,
    /// The time of the first event of all, if there are leaves before it.
    begins: Option<Timestamp>,
    /// The first leaf of the export in its tree.
    first_leaf: u64,
    seen: bool,
    log_epochs: u32,
    epoch: u32,
    events: u64,
    sealed_events: u64,
    /// Events of the range since the last checkpoint of this log epoch.
    unsealed: u64,
    first_last: Option<(Witness, Witness)>,
    before: Option<Witness>,
    behind: Option<Witness>,
    /// Becomes the one behind when it is sealed.
    later: Option<Witness>,
    last: Option<Timestamp>,
    last_sealed: Option<Timestamp>,
}

impl RangeCheck {
    pub(crate) fn new(range: TimeRange) -> Self {
        Self {
            range,
            begins: None,
            first_leaf: 0,
            seen: false,
            log_epochs: 0,
            epoch: 0,
            events: 0,
            sealed_events: 0,
            unsealed: 0,
            first_last: None,
            before: None,
            behind: None,
            later: None,
            last: None,
            last_sealed: None,
        }
    }

    /// Takes the next event in.
    pub(crate) fn event(&mut self, event: EventId, at: Timestamp, (log_epoch, leaves): (u32, u64)) {
        let witness = Witness { event, at, log_epoch, leaf: leaves.saturating_sub(1) };
        if !self.seen {
            self.seen = true;
            self.first_leaf = witness.leaf;
            self.begins = (witness.leaf > 0).then_some(at);
        }
        if self.log_epochs == 0 || self.epoch != log_epoch {
            // What another tree did not seal stays unsealed, whatever this one seals.
            (self.epoch, self.unsealed, self.later) = (log_epoch, 0, None);
            self.log_epochs += 1;
        }
        self.last = self.last.max(Some(at));
        if self.range.contains(at) {
            self.events += 1;
            self.unsealed += 1;
            let first = self.first_last.map_or(witness, |(first, _)| first);
            self.first_last = Some((first, witness));
            (self.behind, self.later) = (None, None);
        } else if at < self.range.start && self.events == 0 {
            self.before = Some(witness);
        } else if self.range.is_before(at) && self.later.is_none() {
            self.later = Some(witness);
        }
    }

    /// Notes that a good checkpoint covers all up to here.
    pub(crate) fn sealed(&mut self) {
        self.sealed_events += std::mem::take(&mut self.unsealed);
        self.last_sealed = self.last;
        self.behind = self.behind.or(self.later);
    }

    pub(crate) fn finish(self) -> RangeReport {
        let mut not_proven = Vec::new();
        let start = self.range.start;
        let margin_before_ms = self.begins.map(|begins| start.0.saturating_sub(begins.0));
        if margin_before_ms.is_some_and(|margin| margin <= 0) {
            not_proven.push(format!(
                "that no event of the range comes before leaf {}, with which the export begins: its time is in the range already",
                self.first_leaf
            ));
        }
        let margin_behind_ms = match (self.range.end, self.last_sealed, &self.behind) {
            (Some(end), Some(last), Some(_)) => Some(last.0.saturating_sub(end.0)),
            _ => None,
        };
        if self.behind.is_none() {
            not_proven.push(
                "that no event of the range comes behind these: no sealed event of a later time is in the export".into(),
            );
        }
        if self.sealed_events < self.events {
            not_proven.push(format!(
                "that {} events of the range, which no checkpoint covers, are all that were there: they are in their writers' chains alone",
                self.events - self.sealed_events
            ));
        }
        if self.log_epochs > 1 {
            not_proven.push(
                "that the log before a restore of the store did not go on behind its last checkpoint here"
                    .into(),
            );
        }
        RangeReport {
            range: self.range,
            events: self.events,
            sealed_events: self.sealed_events,
            first_last: self.first_last,
            before: self.before,
            behind: self.behind,
            margin_before_ms,
            margin_behind_ms,
            not_proven,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: i64) -> Timestamp {
        Timestamp(number * 1_000)
    }

    /// Reads events of these times, the first of which is this leaf; after each of these numbers of events comes a checkpoint.
    fn report(
        first_leaf: u64,
        times: &[i64],
        checkpoints: &[usize],
        range: (i64, Option<i64>),
    ) -> RangeReport {
        let mut check = RangeCheck::new(TimeRange { start: at(range.0), end: range.1.map(at) });
        for (number, time) in times.iter().enumerate() {
            let leaves = first_leaf + number as u64 + 1;
            check.event(EventId::from_bytes([number as u8; 16]), at(*time), (1, leaves));
            if checkpoints.contains(&(number + 1)) {
                check.sealed();
            }
        }
        check.finish()
    }

    #[test]
    fn what_lies_between_sealed_witnesses_is_all() {
        let shown = report(40, &[1, 5, 6, 9, 20, 30], &[2, 6], (4, Some(10)));
        assert_eq!((shown.events, shown.sealed_events), (3, 3));
        assert_eq!(shown.first_last.map(|(first, last)| (first.leaf, last.leaf)), Some((41, 43)));
        assert_eq!((shown.before.unwrap().leaf, shown.behind.unwrap().leaf), (40, 44));
        assert_eq!((shown.margin_before_ms, shown.margin_behind_ms), (Some(3_000), Some(20_000)));
        assert_eq!(shown.not_proven, Vec::<String>::new());
        // Where the log begins nothing can be missing before.
        let shown = report(0, &[5, 6, 20], &[3], (4, Some(10)));
        assert!(shown.not_proven.is_empty() && shown.margin_before_ms.is_none());
        // An empty range between two witnesses is proven to be empty.
        let shown = report(7, &[1, 20], &[2], (4, Some(10)));
        assert!(shown.not_proven.is_empty() && shown.events == 0, "{shown:?}");
    }

    #[test]
    fn what_is_not_proven_is_said() {
        let said = |shown: RangeReport, words: &[&str]| {
            assert_eq!(shown.not_proven.len(), words.len(), "{shown:?}");
            for (text, word) in shown.not_proven.iter().zip(words) {
                assert!(text.contains(word), "{text}");
            }
        };
        said(report(7, &[5, 20], &[2], (4, Some(10))), &["before leaf 7"]);
        said(report(0, &[5, 6], &[2], (4, Some(10))), &["behind these"]);
        said(report(0, &[5, 6], &[2], (4, None)), &["behind these"]);
        // The later event is there, but not sealed.
        said(report(0, &[5, 6, 20], &[1], (4, Some(10))), &["behind these", "1 events"]);
        // Another event of the range comes behind the later one.
        said(report(0, &[5, 20, 6], &[3], (4, Some(10))), &["behind these"]);
        said(report(0, &[5, 20, 6, 21], &[4], (4, Some(10))), &[]);
    }

    #[test]
    fn ranges_lie_within_each_other() {
        let range = |start, end: Option<i64>| TimeRange { start: at(start), end: end.map(at) };
        assert!(range(2, Some(3)).is_within(&range(2, Some(3))) && range(2, None).is_within(&range(0, None)));
        assert!(
            !range(2, None).is_within(&range(0, Some(9))) && !range(1, Some(3)).is_within(&range(2, None))
        );
        assert!(range(2, Some(3)).contains(at(2)) && !range(2, Some(3)).contains(at(3)));
    }
}
