use aesp_proto::ErrorCode;

/// Why something about alerts can't be done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Correct the configuration of the receiver: this can't be used.
    #[error("alert receiver {receiver}: {what}")]
    Setup {
        /// The receiver's name.
        receiver: String,
        /// What can't be used, and why.
        what: String,
    },
    /// Correct the rules: this makes no sense in them.
    #[error("{0}")]
    Rules(String),
    /// Correct the rules or their tests: they don't agree.
    #[error("{} of the rules' tests failed: {first}", count)]
    Tests {
        /// How many.
        count: usize,
        /// The first, and what was wrong.
        first: String,
    },
    /// Read the rules again, and change what is there now.
    #[error("the rules are at version {0}")]
    OtherVersion(u32),
    /// There is no such rule, version, alert, silence or receiver.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The log could not be read.
    #[error(transparent)]
    Log(aesp_audit::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] aesp_storage::Error),
}

impl Error {
    /// Returns the stable code that a client sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Rules(_) | Self::Tests { .. } | Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::OtherVersion(_) => ErrorCode::StateConflict,
            Self::Unknown(_) => ErrorCode::NotFound,
            Self::Log(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Setup { .. } => ErrorCode::InternalError,
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<aesp_audit::Error> for Error {
    fn from(error: aesp_audit::Error) -> Self {
        match error {
            aesp_audit::Error::Store(error) => Self::Store(error),
            error => Self::Log(error),
        }
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let code = error.code();
        match error {
            Error::Rules(_) | Error::Tests { .. } => {
                Self::new(code, error.to_string()).remedy("docs/alerts.md describes rules and their tests")
            }
            Error::OtherVersion(_) => Self::new(code, error.to_string())
                .remedy("read them with aesp alert rules show, and give the version that you changed"),
            Error::Unknown(_) | Error::Invalid(_) => Self::new(code, error.to_string()),
            Error::Log(error) => error.into(),
            Error::Store(error) => error.into(),
            error @ Error::Setup { .. } => Self::internal(error),
        }
    }
}
