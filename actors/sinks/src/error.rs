use aesp_proto::ErrorCode;

/// Why sinks can't begin, or an operator's wish can't be met.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Correct the configuration of the sink: this can't be used.
    #[error("audit sink {sink}: {what}")]
    Setup {
        /// The sink's name.
        sink: String,
        /// What can't be used, and why.
        what: String,
    },
    /// There is no sink of this name in the configuration of the node that answers.
    #[error("no audit sink is called {0}")]
    Unknown(String),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] aesp_audit::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] aesp_storage::Error),
    /// A metric could not be registered.
    #[error("metrics can't be registered")]
    Metrics(#[from] prometheus::Error),
}

impl Error {
    /// Returns the stable code that a client sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::NotFound,
            Self::Log(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Setup { .. } | Self::Metrics(_) => ErrorCode::InternalError,
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            Self::Setup { .. } | Self::Unknown(_) | Self::Metrics(_) => false,
        }
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Unknown(name) => Self::new(ErrorCode::NotFound, format!("no audit sink is called {name}"))
                .remedy("aesp audit sink list shows those of the node that answers"),
            Error::Log(error) => error.into(),
            Error::Store(error) => error.into(),
            error => Self::internal(error),
        }
    }
}
