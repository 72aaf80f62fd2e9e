// The names within an archive. Numbers are filled up with zeros, so that names sort as they do.
//
// | name                                  | what                                                          |
// |---------------------------------------|---------------------------------------------------------------|
// | archive.json                          | whose it is; JSON in clear                                    |
// | keys/NUMBER.json                      | a backup key, wrapped; JSON in clear                          |
// | writers/NUMBER.json                   | a node that took over the writing; JSON in clear              |
// | lines/LINE/line                       | where a line begins                                           |
// | lines/LINE/segments/VERSION           | the commits after a version                                   |
// | snapshots/LINE-VERSION/chunks/NUMBER  | a part of the rows                                            |
// | snapshots/LINE-VERSION/manifest       | what makes a snapshot complete                                |

use crate::{Line, SnapshotId, Version};

pub(crate) const ARCHIVE: &str = "archive.json";
pub(crate) const KEYS: &str = "keys";
pub(crate) const WRITERS: &str = "writers";
pub(crate) const LINES: &str = "lines";
pub(crate) const SNAPSHOTS: &str = "snapshots";

pub(crate) fn key(number: u32) -> String {
    format!("{KEYS}/{number:08}.json")
}

pub(crate) fn writer(number: u64) -> String {
    format!("{WRITERS}/{number:020}.json")
}

/// Reads the number of a key or a writer back.
pub(crate) fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    name.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
}

pub(crate) fn line(line: Line) -> String {
    format!("{LINES}/{:08}/line", line.0)
}

pub(crate) fn segments(line: Line) -> String {
    format!("{LINES}/{:08}/segments", line.0)
}

pub(crate) fn segment(line: Line, from: Version) -> String {
    format!("{}/{:020}", segments(line), from.0)
}

/// What an object below [`LINES`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfLine {
    Begin(Line),
    Segment(Line, Version),
}

pub(crate) fn of_line(name: &str) -> Option<OfLine> {
    let (line, rest) = name.strip_prefix(LINES)?.strip_prefix('/')?.split_once('/')?;
    let line = Line(line.parse().ok()?);
    match rest.strip_prefix("segments/") {
        Some(from) => Some(OfLine::Segment(line, Version(from.parse().ok()?))),
        None => (rest == "line").then_some(OfLine::Begin(line)),
    }
}

pub(crate) fn snapshot(id: SnapshotId) -> String {
    format!("{SNAPSHOTS}/{:08}-{:020}", id.line.0, id.version.0)
}

pub(crate) fn chunks(id: SnapshotId) -> String {
    format!("{}/chunks", snapshot(id))
}

pub(crate) fn chunk(id: SnapshotId, index: u32) -> String {
    format!("{}/{index:08}", chunks(id))
}

pub(crate) fn manifest(id: SnapshotId) -> String {
    format!("{}/manifest", snapshot(id))
}

/// What an object below [`SNAPSHOTS`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfSnapshot {
    Chunk(SnapshotId, u32),
    Manifest(SnapshotId),
}

pub(crate) fn of_snapshot(name: &str) -> Option<OfSnapshot> {
    let (id, rest) = name.strip_prefix(SNAPSHOTS)?.strip_prefix('/')?.split_once('/')?;
    let id = id.parse().ok()?;
    match rest.strip_prefix("chunks/") {
        Some(index) => Some(OfSnapshot::Chunk(id, index.parse().ok()?)),
        None => (rest == "manifest").then_some(OfSnapshot::Manifest(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_change_and_are_read_back() {
        let id = SnapshotId { line: Line(2), version: Version(77) };
        assert_eq!(key(1), "keys/00000001.json");
        assert_eq!(writer(3), "writers/00000000000000000003.json");
        assert_eq!(number::<u64>(&writer(3)), Some(3));
        assert_eq!(line(Line(2)), "lines/00000002/line");
        assert_eq!(segment(Line(2), Version(5)), "lines/00000002/segments/00000000000000000005");
        assert_eq!(chunk(id, 9), "snapshots/00000002-00000000000000000077/chunks/00000009");
        assert_eq!(of_line(&line(Line(2))), Some(OfLine::Begin(Line(2))));
        assert_eq!(of_line(&segment(Line(2), Version(5))), Some(OfLine::Segment(Line(2), Version(5))));
        assert_eq!(of_snapshot(&chunk(id, 9)), Some(OfSnapshot::Chunk(id, 9)));
        assert_eq!(of_snapshot(&manifest(id)), Some(OfSnapshot::Manifest(id)));
        assert_eq!((of_line("lines/x/line"), of_snapshot("snapshots/1-2/other")), (None, None));
    }
}
