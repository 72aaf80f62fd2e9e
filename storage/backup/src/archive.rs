use std::sync::Arc;

use aesp_proto::Timestamp;
use aesp_storage::{KeyProvider, LmdbEngine};

use crate::{
    ArchiveInfo, ClusterId, Error, Point, Progress, Removed, Report, Restored, Retention, Scope, SnapshotId,
    SnapshotInfo, Target, Writer,
};

/// The backups of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Archive {}

/// What wraps the backup keys.
#[derive(Clone)]
pub struct ArchiveKey {
    /// The key provider.
    pub provider: Arc<dyn KeyProvider>,
    /// What it is, for who has to find it again at a restore: `file:/etc/aesp/master.key`, `vault:transit/aesp`, …
    pub description: String,
}

impl Archive {
    /// Opens the archive at `target`, or begins one for `cluster`.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] if the archive is another's, [`Error::BackupKey`] if the key provider can't unwrap its key.
    pub async fn open(target: &Target, cluster: &ClusterId, key: ArchiveKey) -> Result<Self, Error> {
        todo!()
    }

    /// Opens an archive that must be there; of any cluster, if none is given. Never writes to it.
    ///
    /// # Errors
    /// [`Error::NoArchive`] if there is none, and those of [`open`](Self::open).
    pub async fn find(target: &Target, cluster: Option<&ClusterId>, key: ArchiveKey) -> Result<Self, Error> {
        todo!()
    }

    /// Returns the cluster that the archive belongs to.
    pub fn cluster(&self) -> &ClusterId {
        todo!()
    }

    /// Begins another backup key, which seals what is written from now on.
    pub async fn rotate_key(&self) -> Result<u32, Error> {
        todo!()
    }

    /// Takes over the writing of the archive. Earlier writers are fenced off. Begins the journal of the store if there is none,
    /// and a new line of the archive if the last one can't be continued.
    pub async fn claim(&self, engine: &LmdbEngine, journal_limit_bytes: u64) -> Result<Writer, Error> {
        todo!()
    }

    /// Returns the complete snapshots, oldest first.
    pub async fn list(&self) -> Result<Vec<SnapshotInfo>, Error> {
        todo!()
    }

    /// Returns everything that the archive holds.
    pub async fn info(&self) -> Result<ArchiveInfo, Error> {
        todo!()
    }

    /// Reads a snapshot and every segment after it, and checks the chain, the digests and that everything decodes.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Missing`] names the first object that is not as it was written.
    pub async fn verify(
        &self,
        id: SnapshotId,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Report, Error> {
        todo!()
    }

    /// Removes what the policy doesn't keep: snapshots, and the segments that no kept snapshot needs.
    pub async fn retain(&self, policy: &Retention, now: Timestamp) -> Result<Removed, Error> {
        todo!()
    }

    /// Restores into an empty store. Whoever opens the store next must give it a new life before it serves: see `rebirth`.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::BeyondEnd`], [`Error::BeforeBegin`], [`Error::NoSnapshot`], or what is wrong with the archive.
    pub async fn restore(
        &self,
        at: Point,
        scope: Scope,
        into: &LmdbEngine,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Restored, Error> {
        todo!()
    }
}
