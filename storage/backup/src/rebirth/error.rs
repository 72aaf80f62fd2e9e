use aesp_proto::{ErrorCode, TenantId};

/// Why a store did not get its new life.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Stop the nodes: one lives on this store.
    #[error("a node serves on this store; stop all its nodes first")]
    Serving,
    /// Restore again, into another folder: this store is a half.
    #[error("the restore of this store was cut off; restore again into an empty folder")]
    Unfinished,
    /// Import the tenant again from the same file; that completes it.
    #[error("the import of tenant {tenant} into this store was cut off; import it again from the same file")]
    Arriving {
        /// Which one.
        tenant: TenantId,
    },
    /// The store failed.
    #[error("store")]
    Store(#[from] aesp_storage::Error),
    /// The audit log can't go on.
    #[error("audit log")]
    Audit(#[from] aesp_audit::Error),
}

impl Error {
    /// Returns the code that a client hears.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Serving | Self::Unfinished | Self::Arriving { .. } => ErrorCode::StateConflict,
            Self::Store(error) => error.code(),
            Self::Audit(error) => error.code(),
        }
    }

    /// Tells whether the same may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Serving | Self::Unfinished | Self::Arriving { .. } => false,
            Self::Store(error) => error.is_retryable(),
            Self::Audit(error) => error.is_retryable(),
        }
    }
}
