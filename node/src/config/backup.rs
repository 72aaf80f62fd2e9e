use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::BackupFdb;

/// Continuous backups of a store. Without this section there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// Where the archive is: `file:///PATH`, `s3://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or `gs://BUCKET/PREFIX`; for a
    /// store on FoundationDB in its words: `file:///PATH` or `blobstore://KEY@HOST/NAME?bucket=BUCKET`.
    pub target: String,
    /// A file with the credentials for the target, mode 0600: one `NAME=VALUE` a line. Without it the process's environment is
    /// asked for the same names. For FoundationDB its own JSON file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// The authorities that the object store's certificate must come from, PEM; absent for those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// How often what was committed is shipped: the most that a disaster loses, and the time that shipping takes. 1 to 10 s.
    pub segment_seconds: u32,
    /// How often a snapshot begins.
    pub snapshot_minutes: u32,
    /// For how long one can go back. Snapshots and journal that are not needed for it are removed.
    pub keep_days: u32,
    /// How fast a snapshot may read, so that running calls hardly notice it.
    pub throttle_mib_per_second: u32,
    /// How large the journal may grow while the archive is away. Beyond that journalling stops, and a new snapshot is needed.
    pub journal_max_mib: u32,
    /// For how many days the object store is asked to lock each object; 0 for not at all.
    pub object_lock_days: u32,
    /// How often the latest backup is restored into a scratch folder and checked; 0 for never.
    pub drill_hours: u32,
    /// Where drills restore to; needs as much room as the store.
    pub scratch_dir: PathBuf,
    /// For a store on FoundationDB.
    pub fdb: BackupFdb,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            target: String::new(),
            credentials_file: None,
            ca: None,
            segment_seconds: 5,
            snapshot_minutes: 24 * 60,
            keep_days: 30,
            throttle_mib_per_second: 64,
            journal_max_mib: 4_096,
            object_lock_days: 0,
            drill_hours: 7 * 24,
            scratch_dir: "aesp-data/drill".into(),
            fdb: BackupFdb::default(),
        }
    }
}

impl Backup {
    /// Returns how often what was committed is shipped.
    #[must_use]
    pub fn segment(&self) -> Duration {
        Duration::from_secs(self.segment_seconds.into())
    }

    /// Returns how often a snapshot begins.
    #[must_use]
    pub fn snapshot(&self) -> Duration {
        Duration::from_secs(u64::from(self.snapshot_minutes) * 60)
    }

    /// Returns for how long one can go back.
    #[must_use]
    pub fn keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_days) * 86_400)
    }

    /// Returns how often the latest backup is restored and checked, if at all.
    #[must_use]
    pub fn drill(&self) -> Option<Duration> {
        (self.drill_hours > 0).then(|| Duration::from_secs(u64::from(self.drill_hours) * 3_600))
    }
}
