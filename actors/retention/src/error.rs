use std::{sync::Arc, time::Duration};

use aesp_proto::{ErrorCode, HoldId};

/// Why a change of retention is refused, or a step of it fails.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Correct the rules: this of them can't be.
    #[error("{0}")]
    Invalid(String),
    /// Read the rules again: others have changed them since.
    #[error("the retention rules are at version {0} by now")]
    Changed(u64),
    /// Release the hold first, if it may be.
    #[error("legal hold {0} keeps it")]
    Held(HoldId),
    /// Ask the operators of the platform to release it.
    #[error("legal hold {0} is the platform's")]
    Platform(HoldId),
    /// There is no such hold, or it is released already.
    #[error("there is no such legal hold")]
    NoHold,
    /// Nothing was ever sealed for this principal, or it is erased already.
    #[error("there is no key of this principal")]
    NothingToErase,
    /// Configure one: [audit.archive].
    #[error("this node's configuration has no archive of audit events")]
    NoArchive,
    /// The object store did not take a bundle.
    #[error("the archive of audit events does not take a bundle")]
    Objects(#[source] Arc<aesp_backup::Error>),
    /// An object of this name is there already, and is another.
    #[error("object {0} of the audit archive is another than the one that is to be written")]
    Taken(String),
    /// The log could not be read.
    #[error(transparent)]
    Audit(#[from] aesp_audit::Error),
    /// The index could not be read.
    #[error(transparent)]
    Search(#[from] aesp_search::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] aesp_storage::Error),
}

impl Error {
    /// Returns the stable code that a client sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::Changed(_) => ErrorCode::StateConflict,
            Self::Held(_) | Self::Platform(_) => ErrorCode::RetentionPolicyViolation,
            Self::NoArchive => ErrorCode::StateConflict,
            Self::Objects(_) => ErrorCode::ServiceUnavailable,
            Self::Taken(_) => ErrorCode::InternalError,
            Self::NoHold | Self::NothingToErase => ErrorCode::NotFound,
            Self::Audit(error) => error.code(),
            Self::Search(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Audit(error) => error.is_retryable(),
            Self::Search(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            Self::Objects(_) => true,
            _ => false,
        }
    }

    /// Tells whether the tenant has another home by now.
    pub(crate) fn is_fenced(&self) -> bool {
        matches!(self, Self::Store(aesp_storage::Error::Fenced { .. }))
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let code = error.code();
        let text = error.to_string();
        match error {
            Error::Audit(error) => error.into(),
            Error::Search(error) => error.into(),
            Error::Store(error) => error.into(),
            Error::Invalid(_) => Self::new(code, text),
            Error::NoArchive => {
                Self::new(code, text).remedy("docs/audit-retention.md says how to configure one")
            }
            Error::Objects(_) => Self::new(code, text).retry_after(Duration::from_secs(5)).because(error),
            Error::Taken(_) => {
                Self::new(code, text).remedy("look who else writes there, and move the object away")
            }
            Error::Changed(_) => {
                Self::new(code, text).remedy("read them with aesp audit retention show, then set them again")
            }
            Error::Held(_) => Self::new(code, text)
                .remedy("aesp audit hold list shows it; release it if whoever placed it agrees"),
            Error::Platform(_) => Self::new(code, text).remedy("an operator of the platform releases it"),
            Error::NoHold => Self::new(code, text).remedy("aesp audit hold list shows those that there are"),
            Error::NothingToErase => Self::new(code, text)
                .remedy("aesp audit destructions shows what was erased; the id is that of aesp account list"),
        }
    }
}
