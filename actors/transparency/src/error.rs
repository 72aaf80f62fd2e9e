use std::time::Duration;

use aesp_proto::ErrorCode;
use aesp_storage::Error as StoreError;

/// Why the log did not give what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log could not be read.
    #[error(transparent)]
    Audit(aesp_audit::Error),
    /// Wait a moment: nothing is sealed yet.
    #[error("nothing of the log is sealed yet")]
    Empty,
    /// Ask for a smaller size: the log has not got so far.
    #[error("the log has {sealed} sealed events, not {asked}")]
    BeyondEnd {
        /// Its size.
        sealed: u64,
        /// What was asked for.
        asked: u64,
    },
    /// Ask for another: there is no such proof, whatever the log has.
    #[error("{0}")]
    Impossible(String),
    /// There is no such event, or it is not sealed yet.
    #[error("no sealed event of the log has this id")]
    UnknownEvent,
    /// The platform log has not got this head of the log.
    #[error("the head of size {0} is not in the platform log")]
    UnknownHead(u64),
    /// The store has had no platform log of this origin.
    #[error("there is no platform log of this origin")]
    UnknownLog,
    /// Somebody changed what is stored, or it broke: an operator must look.
    #[error("the stored log is damaged: {0}")]
    Damaged(String),
    /// The key that signs can't be made or used.
    #[error("the log key is unusable: {0}")]
    Key(&'static str),
}

impl From<aesp_audit::Error> for Error {
    fn from(error: aesp_audit::Error) -> Self {
        match error {
            aesp_audit::Error::Store(error) => Self::Store(error),
            error => Self::Audit(error),
        }
    }
}

impl From<Error> for aesp_follow::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => Self::Store(error),
            Error::Audit(error) => Self::Audit(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl Error {
    /// Returns the code that a client hears.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Store(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Empty => ErrorCode::ResourceUnavailable,
            Self::BeyondEnd { .. } | Self::Impossible(_) => ErrorCode::InvalidRequest,
            Self::UnknownEvent | Self::UnknownHead(_) | Self::UnknownLog => ErrorCode::NotFound,
            Self::Damaged(_) | Self::Key(_) => ErrorCode::InternalError,
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Audit(error) => error.is_retryable(),
            error => matches!(error, Self::Empty),
        }
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let code = error.code();
        let refusal = match error {
            Error::Store(error) => return error.into(),
            Error::Audit(error) => return error.into(),
            Error::Damaged(_) => {
                return Self::new(code, "the stored log is not what was signed")
                    .remedy("an operator finds what was changed with aesp audit export and aesp audit verify")
                    .because(error);
            }
            Error::Key(_) => return Self::internal(error),
            Error::Empty => Self::new(code, error.to_string()).retry_after(RETRY_AFTER),
            Error::BeyondEnd { .. } => {
                Self::new(code, error.to_string()).remedy("ask for no more than aesp audit checkpoint shows")
            }
            Error::UnknownEvent => Self::new(code, error.to_string())
                .remedy("an event is sealed within seconds: ask again, or correct the id"),
            Error::UnknownHead(_) => Self::new(code, error.to_string())
                .remedy("a new head is in within seconds; of several in one second only the newest: leave the size out"),
            Error::Impossible(_) | Error::UnknownLog => Self::new(code, error.to_string()),
        };
        refusal.because(error)
    }
}

/// When something may be sealed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
