use std::sync::Arc;

use aesp_proto::{ErrorCode, Timestamp};

use crate::{ClusterId, Line, SnapshotId, Version};

/// What went wrong with a backup. The variants say what the caller does next.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Correct the URL, the credentials or an option.
    #[error("backup target: {0}")]
    Target(String),
    /// Point at the archive: there is none.
    #[error("there is no archive at {0}")]
    NoArchive(String),
    /// Point at the archive of this cluster, or give the cluster's own.
    #[error("the archive belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// The cluster that was asked for.
        expected: ClusterId,
        /// The cluster whose archive it is.
        found: ClusterId,
    },
    /// Use a newer release.
    #[error("{object} has format {found}; this release reads formats up to {known}")]
    NewerFormat {
        /// The object.
        object: String,
        /// Its format.
        found: u16,
        /// The newest format that this release knows.
        known: u16,
    },
    /// Configure the key provider that the archive names: the backup key can't be had.
    #[error("the backup key {key}, wrapped by {provider}, can't be unwrapped")]
    BackupKey {
        /// The number of the key.
        key: u32,
        /// What the archive says wrapped it.
        provider: String,
        /// Why the key provider refused.
        #[source]
        source: aesp_storage::Error,
    },
    /// Restore from another snapshot or another copy: what lies there is not what was written.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// The object.
        object: String,
        /// What was found.
        what: String,
    },
    /// Restore from another copy: an object is not there.
    #[error("{object} is missing")]
    Missing {
        /// The object.
        object: String,
    },
    /// Stop: another node has taken over the writing of the archive, as writer `current`.
    #[error("another node writes this archive now (writer {current})")]
    Fenced {
        /// The number of the writer that holds.
        current: u64,
    },
    /// Begin a new line and take a snapshot: the journal was stopped or begun anew, commits are missing.
    #[error("line {line} of the archive has ended at version {at}: the journal has a gap")]
    Gap {
        /// The line that has ended.
        line: Line,
        /// Its last version.
        at: Version,
    },
    /// Ask for an earlier point, or wait for the next segment.
    #[error("the archive ends at version {version}, time {time}")]
    BeyondEnd {
        /// The last version that it holds.
        version: Version,
        /// Its time.
        time: Timestamp,
    },
    /// Ask for a later point: no snapshot is old enough.
    #[error("no snapshot in the archive is old enough to restore that point; the earliest is version {0}")]
    BeforeBegin(Version),
    /// Take a snapshot first.
    #[error("the archive has no snapshot that can be restored")]
    NoSnapshot,
    /// Ask for one that `list` shows.
    #[error("the archive has no snapshot {0}")]
    NoSuchSnapshot(SnapshotId),
    /// Back up into an archive of its own: the store is not one that this archive was written from, nor restored from it.
    #[error(
        "the archive reaches to version {archive}, but the store only to {store}: it did not come from this archive"
    )]
    StoreBehind {
        /// The last version of the archive.
        archive: Version,
        /// The last version of the store.
        store: Version,
    },
    /// Restore into an empty store.
    #[error("the store to restore into is not empty")]
    NotEmpty,
    /// Free space in the archive, then try again.
    #[error("the object store is full")]
    Full,
    /// Correct the credentials or the permissions of the bucket.
    #[error("the object store refuses: {0}")]
    Refused(String),
    /// Try again later: the object store can't be reached or is too slow.
    #[error("object store unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The store failed.
    #[error("store")]
    Store(#[from] aesp_storage::Error),
}

impl Error {
    pub(crate) fn damaged(object: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Damaged { object: object.into(), what: what.into() }
    }

    pub(crate) fn unavailable(reason: impl AsRef<str>) -> Self {
        Self::Unavailable(reason.as_ref().into())
    }

    /// Returns the code that a client hears.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Store(error) => error.code(),
            Self::BeyondEnd { .. } | Self::BeforeBegin(_) => ErrorCode::InvalidRequest,
            Self::NoArchive(_) | Self::NoSuchSnapshot(_) | Self::NoSnapshot => ErrorCode::NotFound,
            Self::NotEmpty | Self::Fenced { .. } | Self::Gap { .. } | Self::StoreBehind { .. } => {
                ErrorCode::StateConflict
            }
            _ => ErrorCode::ServiceUnavailable,
        }
    }

    /// Tells whether the same may succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::BackupKey { source, .. } => source.is_retryable(),
            Self::Unavailable(_) | Self::Full => true,
            _ => false,
        }
    }
}
