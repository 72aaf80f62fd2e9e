use aesp_proto::ErrorCode;
use aesp_storage::Error as StoreError;
use aesp_transparency::Error as LogError;

/// Why something was not done about witnesses or anchors.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The platform log could not be read.
    #[error(transparent)]
    Log(LogError),
    /// Correct the name.
    #[error("no witness of the configuration is called {0:?}")]
    Unknown(String),
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(error) => Self::Store(error),
            error => Self::Log(error),
        }
    }
}

impl Error {
    /// Returns the code that a client hears.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Store(error) => error.code(),
            Self::Log(error) => error.code(),
            Self::Unknown(_) => ErrorCode::NotFound,
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Log(error) => error.is_retryable(),
            Self::Unknown(_) => false,
        }
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let code = error.code();
        match error {
            Error::Store(error) => error.into(),
            Error::Log(error) => error.into(),
            error @ Error::Unknown(_) => Self::new(code, error.to_string())
                .remedy("aesp audit witnesses lists them as the answering node's configuration has them"),
        }
    }
}
