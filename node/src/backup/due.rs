use std::time::Duration;

use aesp_backup::{Line, SnapshotInfo};
use aesp_proto::Timestamp;

use super::rows::{DrillRow, OrderRow};

/// Snapshots of a line, as far as they decide whether another one is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshots {
    /// When the newest complete one of the current line was begun.
    pub(super) newest: Option<Timestamp>,
    /// How many orders it and those before fulfil.
    pub(super) orders: u64,
}

impl Snapshots {
    /// Looks at what the archive holds of the current line.
    pub(super) fn of(line: Line, complete: &[SnapshotInfo], order: OrderRow) -> Self {
        let own = complete.iter().filter(|snapshot| snapshot.id.line == line);
        let newest = own.map(|snapshot| snapshot.began).max();
        // An order may have come while nobody took backups, or to a node that was killed at it.
        let fulfilled = newest.is_some_and(|newest| order.at <= newest);
        Self { newest, orders: order.number - u64::from(order.number > 0 && !fulfilled) }
    }

    /// Tells whether another one is to begin: there is none, it is old, or somebody asked.
    pub(super) fn due(&self, every: Duration, orders: u64, now: Timestamp) -> bool {
        self.newest.is_none_or(|newest| now.since(newest) >= every) || orders != self.orders
    }
}

/// How late a drill may be before somebody is told.
const GRACE: u32 = 4;

/// Tells whether a drill is to be made.
pub(super) fn drill_due(last: Option<&DrillRow>, every: Option<Duration>, now: Timestamp) -> bool {
    every.is_some_and(|every| last.is_none_or(|last| now.since(last.at) >= every))
}

/// Returns what is wrong with the drills: the last one failed, or is a quarter of its time late.
pub(super) fn drill_trouble(
    last: Option<&DrillRow>,
    every: Option<Duration>,
    now: Timestamp,
) -> Option<String> {
    let (last, every) = (last?, every?);
    if !last.passed {
        return Some(format!("the last recovery drill failed: {}", last.reason));
    }
    let late = now.since(last.at) >= every + every / GRACE;
    late.then(|| "no recovery drill was made in time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn drill(age: Duration, passed: bool) -> DrillRow {
        let at = Timestamp(NOW.0 - i64::try_from(age.as_millis()).unwrap());
        DrillRow { at, passed, reason: "a chunk is missing".into(), rpo_ms: 1, rto_ms: 2, version: 3 }
    }

    #[test]
    fn a_snapshot_is_due_when_there_is_none_it_is_old_or_asked_for() {
        let young = Snapshots { newest: Some(Timestamp(NOW.0 - 1)), orders: 4 };
        assert!(!young.due(HOUR, 4, NOW));
        assert!(young.due(HOUR, 5, NOW));
        assert!(young.due(Duration::from_millis(1), 4, NOW));
        assert!(Snapshots { newest: None, orders: 4 }.due(HOUR, 4, NOW));
    }

    #[test]
    fn drills_come_in_time_or_are_told_of() {
        assert!(drill_due(None, Some(HOUR), NOW));
        assert!(!drill_due(None, None, NOW), "never, if they are off");
        assert!(!drill_due(Some(&drill(HOUR / 2, true)), Some(HOUR), NOW));
        assert!(drill_due(Some(&drill(HOUR, true)), Some(HOUR), NOW));
        assert_eq!(drill_trouble(Some(&drill(HOUR, true)), Some(HOUR), NOW), None, "within the grace");
        assert!(drill_trouble(Some(&drill(HOUR * 2, true)), Some(HOUR), NOW).is_some());
        let failed = drill_trouble(Some(&drill(HOUR / 2, false)), Some(HOUR), NOW).unwrap();
        assert!(failed.contains("a chunk is missing"));
    }
}
