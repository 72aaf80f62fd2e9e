use std::path::PathBuf;

use aesp_proto::ErrorCode;

use crate::causes::chain;

/// Why something about backups could not be done. The variants say what the operator does next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Use FoundationDB's own backup.
    #[error(
        "this store is a FoundationDB cluster, which is backed up by its own backup agents; aesp does not drive them yet"
    )]
    Fdb,
    /// Add the section.
    #[error("the configuration has no [backup] section: there are no backups of this store")]
    Unconfigured,
    /// Correct the file.
    #[error("{}{}: {what}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong.
        what: String,
    },
    /// Name an empty or new folder.
    #[error("{} is there already", .0.display())]
    Occupied(PathBuf),
    /// Make room, or give the right.
    #[error("can't use {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Keep what was restored for an investigation, and restore another point or from another copy.
    #[error("the audit log of {tenant} does not verify: {broken}")]
    Log {
        /// Whose.
        tenant: aesp_proto::TenantId,
        /// Where.
        broken: aesp_audit::Broken,
    },
    /// See the archive's own text.
    #[error(transparent)]
    Archive(#[from] aesp_backup::Error),
    /// See the text.
    #[error(transparent)]
    Rebirth(#[from] aesp_backup::rebirth::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] aesp_storage::Error),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] aesp_audit::Error),
    /// The keys of the sealed logs failed.
    #[error(transparent)]
    Transparency(#[from] aesp_transparency::Error),
}

impl Error {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Fdb | Self::Unconfigured | Self::Occupied(_) => ErrorCode::StateConflict,
            Self::Credentials { .. } => ErrorCode::ConfigurationError,
            Self::Folder { .. } | Self::Log { .. } => ErrorCode::InternalError,
            Self::Archive(error) => error.code(),
            Self::Rebirth(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Transparency(error) => error.code(),
        }
    }

    /// Says what an operator does about it.
    pub(crate) fn next(&self) -> Option<&'static str> {
        use aesp_backup::Error as Archive;
        Some(match self {
            Self::Fdb => "use fdbbackup and fdbrestore; docs/backup.md shows how",
            Self::Unconfigured => "write a [backup] section: aesp config default explains it",
            Self::Credentials { .. } => "correct the file; docs/backup.md lists the names",
            Self::Occupied(_) => "name a folder that is not there yet, or is empty, with --into",
            Self::Folder { .. } => "check the right to it and the room on its disk",
            Self::Log { .. } => "keep the folder for an investigation, and restore an earlier point",
            Self::Rebirth(aesp_backup::rebirth::Error::Serving) => "stop every node that uses the store",
            Self::Rebirth(_) => "restore again, into an empty folder",
            Self::Archive(error) => match error {
                Archive::Target(_) => "correct backup.target or the credentials: docs/backup.md",
                Archive::NoArchive(_) => {
                    "check backup.target; the archive begins with the first backup of a node"
                }
                Archive::OtherCluster { .. } => "point backup.target at this cluster's own archive",
                Archive::NewerFormat { .. } => "use the release that wrote the archive, or a newer one",
                Archive::BackupKey { .. } => "configure the key provider that the message names",
                Archive::Damaged { .. } | Archive::Missing { .. } => {
                    "restore an earlier point (aesp backup list), or from another copy of the archive"
                }
                Archive::BeyondEnd { .. } | Archive::BeforeBegin(_) | Archive::NoSuchSnapshot(_) => {
                    "see what there is: aesp backup list"
                }
                Archive::NoSnapshot => "wait for the first snapshot: aesp backup now",
                Archive::NotEmpty => "name a folder that is not there yet, or is empty, with --into",
                Archive::StoreBehind { .. } => {
                    "name an empty place in backup.target: this store begins an archive of its own"
                }
                Archive::Full => "make room in the object store",
                Archive::Refused(_) => "check the credentials and the rights of the bucket",
                _ => return None,
            },
            Self::Store(_) | Self::Audit(_) | Self::Transparency(_) => return None,
        })
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let (code, next) = (error.code(), error.next());
        if code == ErrorCode::InternalError {
            return Self::internal(error);
        }
        // Whoever may operate backups may read why they fail; credentials are in no text.
        let refusal = Self::new(code, chain(&error));
        match next {
            Some(next) => refusal.remedy(next),
            None => refusal,
        }
    }
}
