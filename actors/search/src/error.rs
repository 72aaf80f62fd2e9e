use aesp_proto::ErrorCode;

/// Why events could not be found, counted or indexed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A row of this segment is gone or is not what was written: make the segment anew, then try again.
    #[error("segment {0} of the index is damaged")]
    Segment(u64),
    /// Ask for fewer sorts, or a shorter time.
    #[error("the statistics would have more than {0} lines")]
    TooManyGroups(usize),
    /// The log could not be read, or the cursor is none of this question.
    #[error(transparent)]
    Audit(#[from] aesp_audit::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] aesp_storage::Error),
}

impl Error {
    /// Returns the stable code that a client sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Segment(_) => ErrorCode::ServiceUnavailable,
            Self::TooManyGroups(_) => ErrorCode::InvalidRequest,
            Self::Audit(error) => error.code(),
            Self::Store(_) => ErrorCode::ServiceUnavailable,
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.code() == ErrorCode::ServiceUnavailable
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Audit(error) => error.into(),
            Error::Store(error) => error.into(),
            Error::Segment(_) => {
                let text = "the index of the audit log is being made anew";
                Self::new(error.code(), text)
                    .retry_after(std::time::Duration::from_millis(500))
                    .because(error)
            }
            Error::TooManyGroups(most) => {
                let text = format!("the statistics would have more than {most} lines");
                Self::new(error.code(), text).remedy("group by less, or ask for a shorter time")
            }
        }
    }
}
