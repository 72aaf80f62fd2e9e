use std::{sync::Arc, time::Duration};

use aesp_proto::ErrorCode;

/// Why something could not be recorded or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Too many units wait already; nothing was done, come again later.
    #[error("the audit queue is full")]
    Overloaded {
        /// When a retry may succeed.
        retry_after: Duration,
    },
    /// The last commits failed, so nothing is taken on until the store is back; nothing was done.
    #[error("the audit log cannot be written at present")]
    Parked {
        /// When a retry may succeed.
        retry_after: Duration,
    },
    /// The commit of the batch failed; whether it landed is as uncertain as the cause says.
    #[error("the audit batch was not committed")]
    NotCommitted {
        /// What the store said.
        #[source]
        cause: aesp_storage::Error,
    },
    /// The batch did not commit in time; it may still land.
    #[error("the audit batch did not commit in time")]
    TimedOut,
    /// The writer stopped before it took the unit on; nothing was done.
    #[error("the audit writer has stopped")]
    Stopped,
    /// The writer died with the unit in its hands; it may have been committed.
    #[error("the audit writer died during the commit")]
    Lost,
    /// The unit's closure panicked; the unit was taken out of the batch.
    #[error("the change panicked: {0}")]
    Panicked(String),
    /// An event's bytes do not fit in a leaf.
    #[error("an audit event of {size_bytes} bytes exceeds the limit of {limit_bytes}")]
    EventTooLarge {
        /// Bytes of the encoded event.
        size_bytes: usize,
        /// The most that a leaf may have.
        limit_bytes: usize,
    },
    /// One unit has more events than a commit takes.
    #[error("{0} audit events in one change are too many")]
    TooManyEvents(usize),
    /// What the change writes does not fit in a transaction.
    #[error("the change is too large to be committed")]
    TooLarge,
    /// The cursor was not made by this query.
    #[error("the cursor does not belong to this query")]
    InvalidCursor,
    /// Stored bytes of the log can't be read; they were damaged outside of the Host.
    #[error("the stored audit log is damaged: {0}")]
    Damaged(&'static str),
    /// A part of the log lies on an object store and can't be had from there now.
    #[error("object {object} of the audit archive {what}")]
    Shelf {
        /// The object's name.
        object: String,
        /// What is in the way.
        what: String,
    },
    /// What lies on the object store is not the part of the log that was moved there. It is not believed.
    #[error("object {object} of the audit archive {what}")]
    ShelfDamaged {
        /// The object's name.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// The node's audit key can't be made or used.
    #[error("the audit key is unusable: {0}")]
    Key(&'static str),
    /// A metric could not be registered.
    #[error("metrics can't be registered")]
    Metrics(#[source] Arc<prometheus::Error>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] aesp_storage::Error),
}

impl Error {
    /// Returns the stable code that a client sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Overloaded { .. } => ErrorCode::ResourceUnavailable,
            Self::Parked { .. } | Self::NotCommitted { .. } | Self::TimedOut | Self::Stopped | Self::Lost => {
                ErrorCode::ServiceUnavailable
            }
            Self::EventTooLarge { .. } | Self::TooManyEvents(_) | Self::TooLarge | Self::InvalidCursor => {
                ErrorCode::InvalidRequest
            }
            Self::Panicked(_) | Self::Damaged(_) | Self::Key(_) | Self::Metrics(_) => {
                ErrorCode::InternalError
            }
            Self::ShelfDamaged { .. } => ErrorCode::InternalError,
            Self::Shelf { .. } | Self::Store(_) => ErrorCode::ServiceUnavailable,
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.code(), ErrorCode::ResourceUnavailable | ErrorCode::ServiceUnavailable)
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let code = error.code();
        let soon = Duration::from_millis(500);
        let (text, retry_after) = match &error {
            Error::Store(_) => {
                let Error::Store(cause) = error else { unreachable!("matched above") };
                return cause.into();
            }
            Error::Shelf { .. } | Error::ShelfDamaged { .. } => {
                let answer = Self::new(code, error.to_string())
                    .remedy("docs/audit-retention.md says what to do about the archive");
                let retryable = error.is_retryable();
                let answer = answer.because(error);
                return if retryable { answer.retry_after(soon) } else { answer };
            }
            Error::Overloaded { retry_after } => {
                ("the Host has too many requests in hand", Some(*retry_after))
            }
            Error::Parked { retry_after } => {
                ("the audit log cannot be written at present", Some(*retry_after))
            }
            _ if error.is_retryable() => ("the audit log cannot be written at present", Some(soon)),
            Error::InvalidCursor => ("the cursor does not belong to this query", None),
            Error::EventTooLarge { .. } | Error::TooManyEvents(_) | Error::TooLarge => {
                ("the audit record is too large", None)
            }
            _ => return Self::internal(error),
        };
        let answer = Self::new(code, text).because(error);
        match retry_after {
            Some(after) => answer.retry_after(after),
            None => answer,
        }
    }
}
