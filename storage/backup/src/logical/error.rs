use aesp_proto::{ErrorCode, TenantId};

use crate::rebirth;

/// Why an export was not written or not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Name an export.
    #[error("this is not an export of a store")]
    NotAnExport,
    /// Use a newer release.
    #[error("the export has format {found}; this release reads formats up to {known}")]
    NewerFormat {
        /// Its format.
        found: u16,
        /// The newest format that this release knows.
        known: u16,
    },
    /// Copy the file again, or export again.
    #[error("the export is cut off at byte {0}")]
    Truncated(u64),
    /// Copy the file again, or export again: it is not what was written.
    #[error("the export was changed: {0}")]
    Altered(&'static str),
    /// Configure the key provider that the export was written for.
    #[error("the export was written for {provider}, which is not the key provider of this store")]
    OtherKey {
        /// What the header names.
        provider: String,
        /// What the provider said.
        #[source]
        source: aesp_storage::Error,
    },
    /// Import into a new store.
    #[error("the store to import into is not empty")]
    NotEmpty,
    /// Import it with `--tenant`, into a store that others live in.
    #[error("this is the export of one tenant, {0}; it is imported into a store that is there")]
    OneTenant(TenantId),
    /// Import it as a whole, into an empty store.
    #[error("this is the export of a whole store, not of one tenant")]
    WholeStore,
    /// The tenant is there, or was: its id and its name are never given again.
    #[error("the store has the tenant {0} already")]
    TenantExists(TenantId),
    /// The imported tenant can't be taken in.
    #[error(transparent)]
    Adopt(aesp_proto::Error),
    /// Stop the nodes, then export again.
    #[error(
        "rows changed while they were exported, which takes longer than this engine keeps a snapshot (5 s); \
         stop the nodes and export again, or export a restored backup"
    )]
    Changed,
    /// The file can't be read or written.
    #[error("file")]
    File(#[from] std::io::Error),
    /// The store failed.
    #[error("store")]
    Store(#[from] aesp_storage::Error),
    /// The imported store can't begin its life.
    #[error(transparent)]
    Rebirth(#[from] rebirth::Error),
    /// The tenant's audit log can't go on.
    #[error("audit log")]
    Audit(#[from] aesp_audit::Error),
}

impl Error {
    /// Returns the code that a client hears.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotAnExport | Self::NewerFormat { .. } | Self::Truncated(_) | Self::Altered(_) => {
                ErrorCode::InvalidRequest
            }
            Self::OtherKey { .. } => ErrorCode::ConfigurationError,
            Self::NotEmpty
            | Self::Changed
            | Self::OneTenant(_)
            | Self::WholeStore
            | Self::TenantExists(_) => ErrorCode::StateConflict,
            Self::Adopt(error) => error.code(),
            Self::File(_) => ErrorCode::ResourceUnavailable,
            Self::Store(error) => error.code(),
            Self::Rebirth(error) => error.code(),
            Self::Audit(error) => error.code(),
        }
    }

    /// Tells whether the same may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) | Self::OtherKey { source: error, .. } => error.is_retryable(),
            Self::Rebirth(error) => error.is_retryable(),
            Self::Audit(error) => error.is_retryable(),
            Self::Changed => true,
            _ => false,
        }
    }
}
