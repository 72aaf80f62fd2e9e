//! What FoundationDB's programs tell, as JSON.
//!
//! Source: FoundationDB 7.3, `fdbbackup status --json` and `fdbbackup describe --json`, schema 1.0.0.

use serde::{Deserialize, de::DeserializeOwned};

use super::super::Error;

/// How the backup under a tag does.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Status {
    pub(super) backup_agents_paused: bool,
    pub(super) status: State,
    pub(super) latest_restorable_point: Option<At>,
    #[serde(rename = "DestinationURL")]
    pub(super) destination_url: Option<String>,
    pub(super) snapshot_interval_seconds: Option<u64>,
    pub(super) latest_snapshot_end: Option<At>,
    pub(super) current_snapshot: Option<Running>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    pub(super) running: bool,
}

/// The snapshot that is being taken.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Running {
    pub(super) begin: Option<At>,
}

/// A version, and when that was as far as the cluster remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct At {
    pub(super) version: u64,
    #[serde(default)]
    pub(super) epoch_seconds: Option<i64>,
    /// How far it is behind, in seconds of versions.
    #[serde(default)]
    pub(super) lag_seconds: Option<i64>,
}

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Described {
    pub(super) restorable: bool,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) min_restorable_point: Option<At>,
    pub(super) max_restorable_point: Option<At>,
}

/// A snapshot of a backup.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Snapshot {
    pub(super) start: At,
    /// The first version that can be restored from it.
    pub(super) end: At,
    pub(super) restorable: bool,
    pub(super) total_bytes: u64,
}

impl Described {
    /// Returns the versions that can be restored, the first and the last.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        let (from, to) = (self.min_restorable_point?, self.max_restorable_point?);
        self.restorable.then_some((from.version, to.version))
    }
}

/// Reads the document in what a program printed, before which there may be warnings.
pub(super) fn read<T: DeserializeOwned>(program: &'static str, text: &str) -> Result<T, Error> {
    let unread = |why: String| Error::Answer { program, why };
    let from = text.find('{').ok_or_else(|| unread("it is no JSON".into()))?;
    serde_json::from_str(text[from..].trim_end()).map_err(|error| unread(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_never_ran_does_not_run() {
        let text = r#"{"SchemaVersion":"1.0.0","BackupAgentsPaused":false,"Tag":"aesp"}"#;
        let status: Status = read("fdbbackup", text).unwrap();
        assert!(!status.status.running && status.latest_restorable_point.is_none());
    }

    #[test]
    fn a_running_backup_says_how_far_it_is() {
        let text = r#"WARNING: something
            {"SchemaVersion":"1.0.0","BackupAgentsPaused":false,"Tag":"aesp","UID":"c0ffee","Status":{"Name":"differential",
             "Description":"is differential","Completed":false,"Running":true},"Restorable":true,
             "LatestRestorablePoint":{"Version":5000000,"EpochSeconds":1764220000,"Timestamp":"2025/11/27.05:06:40+0000",
             "LagSeconds":7},"DestinationURL":"file:///b/backup-1","StopAfterSnapshot":false,"SnapshotIntervalSeconds":86400,
             "LogBytesWritten":12,"RangeBytesWritten":13,"LatestSnapshotEnd":{"Version":4000000},
             "CurrentSnapshot":{"Begin":{"Version":4500000},"ExpectedProgress":0.5,"LastDispatch":{}},"Errors":[]}"#;
        let status: Status = read("fdbbackup", text).unwrap();
        assert!(status.status.running);
        let point = status.latest_restorable_point.unwrap();
        assert_eq!((point.version, point.lag_seconds), (5_000_000, Some(7)));
        assert_eq!(status.current_snapshot.unwrap().begin.unwrap().version, 4_500_000);
    }

    #[test]
    fn a_description_says_what_can_be_restored() {
        let text = r#"{"SchemaVersion":"1.0.0","URL":"file:///b/backup-1","Restorable":true,"Partitioned":false,
            "Snapshots":[{"Start":{"Version":10,"RelativeDays":-0.1},"End":{"Version":20,"RelativeDays":-0.1},"Restorable":true,
            "TotalBytes":99,"PercentageExpired":0.0}],"TotalSnapshotBytes":99,"MinLogBegin":{"Version":5},
            "MinRestorablePoint":{"Version":20},"MaxRestorablePoint":{"Version":70}}"#;
        let described: Described = read("fdbbackup", text).unwrap();
        assert_eq!(described.range(), Some((20, 70)));
        assert_eq!(described.snapshots[0].total_bytes, 99);
        let none: Described = read("fdbbackup", r#"{"Restorable":false,"Snapshots":[]}"#).unwrap();
        assert_eq!(none.range(), None);
    }

    #[test]
    fn other_answers_are_refused() {
        for text in ["", "Fatal Error", "{", r#"{"Snapshots":1}"#] {
            assert!(matches!(read::<Described>("fdbbackup", text), Err(Error::Answer { .. })), "{text}");
        }
    }
}
