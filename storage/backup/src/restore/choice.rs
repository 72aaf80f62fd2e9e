use crate::{
    Error, Point, SnapshotInfo,
    archive::{LineState, Overview},
};

/// Chooses what to restore from: the newest snapshot of the line that holds the point.
pub(super) fn choose(overview: &Overview, at: Point) -> Result<(&SnapshotInfo, &LineState), Error> {
    let (end, end_time) = overview.end();
    let beyond = match at {
        Point::Latest => false,
        Point::Version(version) => version > end,
        Point::Time(time) => time > end_time,
    };
    if beyond {
        return Err(Error::BeyondEnd { version: end, time: end_time });
    }
    let restorable = overview.snapshots.iter().filter(|snapshot| snapshot.restorable);
    let Some(earliest) = restorable.clone().map(|snapshot| snapshot.from).min() else {
        return Err(Error::NoSnapshot);
    };
    let fits = |snapshot: &&SnapshotInfo| match at {
        Point::Latest => true,
        Point::Version(version) => snapshot.from <= version,
        Point::Time(time) => snapshot.from_time <= time,
    };
    let snapshot = restorable.filter(fits).max_by_key(|snapshot| snapshot.id);
    let snapshot = snapshot.ok_or(Error::BeforeBegin(earliest))?;
    let line = overview.line(snapshot.id.line).ok_or(Error::NoSnapshot)?;
    let lost = match at {
        Point::Latest => false,
        Point::Version(version) => version > line.to,
        Point::Time(time) => time > line.to_time.max(snapshot.from_time),
    };
    if lost {
        // Between two lines, or before the first snapshot of the next.
        return Err(Error::Gap { line: line.line, at: line.to });
    }
    Ok((snapshot, line))
}

#[cfg(test)]
mod tests {
    use aesp_proto::Timestamp;

    use super::*;
    use crate::{
        Line, SnapshotId, Version,
        archive::{Digest, LineHead},
    };

    fn line(number: u32, from: u64, to: u64) -> LineState {
        LineState {
            line: Line(number),
            head: LineHead {
                journal: String::new(),
                from: Version(from),
                began: Timestamp(from as i64 * 10),
            },
            begin: Digest([0; 32]),
            segments: vec![(Version(from), 1)],
            to: Version(to),
            to_time: Timestamp(to as i64 * 10),
            tail: Digest([0; 32]),
            broken: None,
        }
    }

    fn snapshot(line: u32, version: u64, from: u64, restorable: bool) -> SnapshotInfo {
        SnapshotInfo {
            id: SnapshotId { line: Line(line), version: Version(version) },
            from: Version(from),
            from_time: Timestamp(from as i64 * 10),
            began: Timestamp(version as i64 * 10),
            chunks: 1,
            rows: 1,
            bytes: 1,
            tenants: Vec::new(),
            key_provider: String::new(),
            restorable,
        }
    }

    #[test]
    fn the_newest_that_reaches_the_point_is_taken() {
        let overview = Overview {
            lines: vec![line(1, 0, 100), line(2, 150, 300)],
            snapshots: vec![
                snapshot(1, 10, 15, true),
                snapshot(1, 50, 60, true),
                snapshot(2, 160, 170, true),
                snapshot(2, 290, 310, false),
            ],
            unfinished: Vec::new(),
        };
        let version =
            |at| choose(&overview, Point::Version(Version(at))).map(|(found, _)| found.id.version.0);
        let time = |at| choose(&overview, Point::Time(Timestamp(at))).map(|(found, _)| found.id.version.0);
        assert_eq!(choose(&overview, Point::Latest).unwrap().0.id.version.0, 160);
        assert!(matches!(version(14), Err(Error::BeforeBegin(Version(15)))));
        assert_eq!((version(15).unwrap(), version(59).unwrap(), version(60).unwrap()), (10, 10, 50));
        assert_eq!(version(100).unwrap(), 50);
        assert!(matches!(version(101), Err(Error::Gap { at: Version(100), .. })));
        assert!(matches!(version(169), Err(Error::Gap { .. })));
        assert_eq!(version(300).unwrap(), 160);
        assert!(matches!(version(301), Err(Error::BeyondEnd { .. })));
        assert_eq!((time(599).unwrap(), time(600).unwrap()), (10, 50));
        assert!(matches!(time(3001), Err(Error::BeyondEnd { .. })));
        let none = Overview { lines: Vec::new(), snapshots: Vec::new(), unfinished: Vec::new() };
        assert!(matches!(choose(&none, Point::Latest), Err(Error::NoSnapshot)));
    }
}
