use aesp_backup::SnapshotInfo;
use aesp_proto::Timestamp;
use tokio::sync::watch;

use super::{DrillRow, Metrics};
use crate::config;

/// The backups of a store: what is wanted, and what this node sees and counts of them.
pub(crate) struct Watched {
    pub(crate) section: config::Backup,
    pub(crate) seen: watch::Sender<Seen>,
    pub(crate) metrics: Metrics,
}

/// What this node knows of the backups that it takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Whether it takes them.
    pub(crate) leads: bool,
    /// Until when and up to which version everything is in the archive.
    pub(crate) restorable_to: Option<(Timestamp, u64)>,
    pub(crate) journal_bytes: u64,
    pub(crate) snapshot: Option<Taken>,
    pub(crate) snapshot_running: bool,
    pub(crate) drill: Option<DrillRow>,
    pub(crate) drill_trouble: Option<String>,
    /// Why they fail, by what fails.
    pub(crate) trouble: std::collections::BTreeMap<&'static str, String>,
}

/// A complete snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) id: String,
    /// When it was begun.
    pub(crate) began: Timestamp,
    /// The first version that can be restored from it.
    pub(crate) from: u64,
    pub(crate) bytes: u64,
}

impl From<SnapshotInfo> for Taken {
    fn from(info: SnapshotInfo) -> Self {
        Self { id: info.id.to_string(), began: info.began, from: info.from.0, bytes: info.bytes }
    }
}

impl Watched {
    pub(super) fn new(section: config::Backup, metrics: Metrics) -> Self {
        Self { section, seen: watch::Sender::default(), metrics }
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
    }

    /// Notes the last complete snapshot.
    pub(super) fn saw(&self, snapshot: Option<Taken>) {
        let Some(snapshot) = snapshot else { return };
        self.metrics.snapshot_timestamp_seconds.set(snapshot.began.0 as f64 / 1_000.0);
        self.metrics.snapshot_bytes.set(i64::try_from(snapshot.bytes).unwrap_or(i64::MAX));
        self.note(|seen| seen.snapshot = Some(snapshot));
    }

    /// Tells whether backups do what they should, as far as this node takes them.
    pub(super) fn state(&self) -> Result<(), String> {
        let seen = self.seen.borrow();
        let trouble = seen.trouble.values().chain(&seen.drill_trouble).next().cloned();
        trouble.map_or(Ok(()), Err)
    }
}
