use std::path::PathBuf;

use aesp_proto::{ErrorCode, chain};

/// Why something about backups could not be done. The variants say what the operator does next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
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
    /// Install FoundationDB's programs, or correct the section.
    #[error("can't run {}", program.display())]
    Program {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// See what it says.
    #[error("{program} failed ({status}): {said}")]
    Tool {
        /// Which of FoundationDB's programs.
        program: &'static str,
        /// The end of what it printed.
        said: String,
        /// How it ended.
        status: String,
    },
    /// Look whether the cluster is available.
    #[error("{program} did not answer within {seconds} s")]
    Silent {
        /// Which of FoundationDB's programs.
        program: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// Use FoundationDB 7.3.
    #[error("what {program} answers can't be read: {why}")]
    Answer {
        /// Which of FoundationDB's programs.
        program: &'static str,
        /// Why not.
        why: String,
    },
    /// Resume the agents.
    #[error("an operator has paused all backup agents of the cluster")]
    Paused,
    /// Wait for the node that takes the backups.
    #[error("no backup of this store is running")]
    NotRunning,
    /// End one of the two.
    #[error("the running backup goes to {found}, not to {wanted}")]
    Elsewhere {
        /// Where it goes.
        found: String,
        /// Where it should.
        wanted: String,
        /// The tag that it has.
        tag: String,
    },
    /// Wait, or look elsewhere.
    #[error("there is no backup at {0} that can be restored")]
    NoBackup(String),
    /// Choose another moment.
    #[error("version {version} can't be restored; the backups hold {}", ranges(held))]
    Beyond {
        /// The one that was asked for.
        version: u64,
        /// The first and the last of each backup.
        held: Vec<(u64, u64)>,
    },
    /// Choose a later moment, or a version.
    #[error("nothing is known of the versions of {}", .0.0)]
    BeforeMarks(aesp_proto::Timestamp),
    /// Choose another prefix, or remove what is there.
    #[error("the prefix {prefix} of the FoundationDB cluster {} is in use", cluster_file.display())]
    PrefixInUse {
        /// Of the cluster.
        cluster_file: PathBuf,
        /// The one that was asked for.
        prefix: String,
    },
    /// Name one.
    #[error("the configuration names no FoundationDB cluster for drills")]
    NoDrillCluster,
    /// Report it; it is begun again.
    #[error("a task of the backups crashed: {0}")]
    Crashed(String),
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

fn ranges(held: &[(u64, u64)]) -> String {
    held.iter().map(|(from, to)| format!("{from} to {to}")).collect::<Vec<_>>().join(", ")
}

impl Error {
    pub(crate) fn program(program: &std::path::Path, source: std::io::Error) -> Self {
        Self::Program { program: program.to_owned(), source }
    }

    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Unconfigured
            | Self::Occupied(_)
            | Self::Paused
            | Self::NotRunning
            | Self::Elsewhere { .. }
            | Self::PrefixInUse { .. } => ErrorCode::StateConflict,
            Self::Credentials { .. } | Self::Program { .. } | Self::NoDrillCluster => {
                ErrorCode::ConfigurationError
            }
            Self::NoBackup(_) | Self::Beyond { .. } | Self::BeforeMarks(_) => ErrorCode::NotFound,
            Self::Tool { .. } | Self::Silent { .. } | Self::Answer { .. } => ErrorCode::ServiceUnavailable,
            Self::Folder { .. } | Self::Log { .. } | Self::Crashed(_) => ErrorCode::InternalError,
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
            Self::Unconfigured => "write a [backup] section: aesp config default explains it",
            Self::Credentials { .. } => "correct the file; docs/backup.md lists the names",
            Self::Occupied(_) => "name a folder that is not there yet, or is empty, with --into",
            Self::Folder { .. } => "check the right to it and the room on its disk",
            Self::Log { .. } => "keep the folder for an investigation, and restore an earlier point",
            Self::Program { .. } => {
                "install the servers' release of FoundationDB's programs, or correct [backup.fdb]: docs/backup.md"
            }
            Self::Tool { .. } => {
                "see FoundationDB's words above; fdbcli --exec status tells how the cluster is"
            }
            Self::Silent { .. } => "look at the cluster: fdbcli --exec status",
            Self::Answer { .. } => "use the programs of FoundationDB 7.3 in backup.fdb.programs",
            Self::Paused => "resume them: fdbbackup resume",
            Self::NotRunning => {
                "the node that takes the backups begins one within seconds; see aesp backup status"
            }
            Self::Elsewhere { .. } => {
                "correct backup.target, or end that backup: fdbbackup abort -t TAG, where TAG is aesp- and store.fdb.prefix"
            }
            Self::NoBackup(_) => "check backup.target; the first snapshot of a large store takes its time",
            Self::Beyond { .. } => "see what there is: aesp backup list",
            Self::BeforeMarks(_) => "choose a later moment, or a version: aesp backup list",
            Self::PrefixInUse { .. } => {
                "name another with --prefix, or remove what is there: docs/foundationdb.md"
            }
            Self::NoDrillCluster => "set backup.fdb.drill_cluster: docs/backup.md",
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
            Self::Store(_) | Self::Audit(_) | Self::Transparency(_) | Self::Crashed(_) => return None,
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
