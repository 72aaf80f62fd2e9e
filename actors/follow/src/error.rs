use aesp_storage::Error as StoreError;

/// Why a follower did not get on with a tenant's log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store failed. Fenced: the tenant has another home now, which goes on.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log could not be read.
    #[error(transparent)]
    Audit(aesp_audit::Error),
    /// What is stored is not what a follower wrote: an operator must look.
    #[error("what was built behind the log is damaged: {0}")]
    Damaged(String),
}

impl Error {
    /// Tells whether the tenant has another home now.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Store(StoreError::Fenced { .. }))
    }
}

impl From<aesp_audit::Error> for Error {
    fn from(error: aesp_audit::Error) -> Self {
        match error {
            aesp_audit::Error::Store(error) => Self::Store(error),
            error => Self::Audit(error),
        }
    }
}
