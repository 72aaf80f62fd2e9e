use std::time::Duration;

use aesp_proto::ErrorCode;

/// Why a Runtime was not registered, connected or given a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody connected fulfils the contract; one may (re)connect.
    #[error("no connected Runtime fulfils {name}@{version}")]
    NoRuntime {
        /// The contract's name.
        name: String,
        /// The contract's version.
        version: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The Runtimes that fulfil the contract have full queues.
    #[error("every Runtime that fulfils {name} is busy")]
    Overloaded {
        /// The contract's name.
        name: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The Host shuts down or has too many connections; connect to another node.
    #[error("this node takes no Runtime connections at the moment")]
    NotServing,
    /// The registration is malformed; the text says what would be right.
    #[error("{0}")]
    Invalid(String),
    /// The `runtime_id` belongs to another certificate identity.
    #[error("the Runtime {0} is registered already")]
    Taken(String),
    /// There is no such registration.
    #[error("no Runtime {0} is registered")]
    NotRegistered(String),
    /// The tenant's quota of Runtimes, or its state, refused the connection.
    #[error("the connection was not admitted")]
    NotAdmitted(#[source] aesp_proto::Error),
    /// An actor could not be started or did not answer in time.
    #[error("the Runtime connections' actor failed")]
    Actor(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store failed.
    #[error("the registrations can't be read or written")]
    Storage(#[from] aesp_storage::Error),
    /// The change could not be recorded, so it was not made.
    #[error("the change can't be recorded")]
    Audit(#[from] aesp_audit::Error),
}

impl Error {
    /// Returns the stable code that a client sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoRuntime { .. } | Self::Overloaded { .. } => ErrorCode::ResourceUnavailable,
            Self::NotServing => ErrorCode::ServiceUnavailable,
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::Taken(_) => ErrorCode::StateConflict,
            Self::NotRegistered(_) => ErrorCode::NotFound,
            Self::NotAdmitted(error) => error.code(),
            Self::Actor(_) => ErrorCode::InternalError,
            Self::Storage(error) => error.code(),
            Self::Audit(error) => error.code(),
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoRuntime { .. } | Self::Overloaded { .. } | Self::NotServing => true,
            Self::NotAdmitted(error) => error.is_retryable(),
            Self::Storage(error) => error.is_retryable(),
            Self::Audit(error) => error.is_retryable(),
            Self::Invalid(_) | Self::Taken(_) | Self::NotRegistered(_) | Self::Actor(_) => false,
        }
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotAdmitted(inner) => inner,
            Error::Storage(inner) => inner.into(),
            Error::Audit(inner) => inner.into(),
            Error::Actor(_) => Self::internal(error),
            Error::NoRuntime { retry_after, .. } => {
                Self::new(error.code(), text).retry_after(retry_after).remedy(
                    "start a Runtime that fulfils the contract; `aesp runtime list` shows who is connected",
                )
            }
            Error::Overloaded { retry_after, .. } => Self::new(error.code(), text).retry_after(retry_after),
            Error::NotServing => Self::new(error.code(), text)
                .retry_after(Duration::from_secs(1))
                .remedy("connect to another node"),
            Error::NotRegistered(_) => {
                Self::new(error.code(), text).remedy("`aesp runtime registrations` lists them")
            }
            Error::Invalid(_) | Error::Taken(_) => Self::new(error.code(), text),
        }
    }
}
