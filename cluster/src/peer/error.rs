use aesp_proto::ErrorCode;

/// Why a request to a peer has no answer, or no complete one. Says whether the other side may have acted on it.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The other side has not seen it and never will; it may be sent again, also elsewhere.
    #[error("the request was not sent: {0}")]
    NotSent(NotSent),
    /// The link ended after the request was handed to it: the other side may have acted.
    #[error("the peer was lost during the request")]
    Lost,
    /// The other side refused, or failed.
    #[error(transparent)]
    Refused(aesp_proto::Error),
}

/// Why a request never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// There is no link to that incarnation now.
    #[error("no link to the peer")]
    NoLink,
    /// The link ended while the request was still waiting to be sent.
    #[error("the link ended")]
    LinkEnded,
    /// Too much is waiting for the peer, or running there.
    #[error("the link is overloaded")]
    Overloaded,
    /// The payload is above the limit of one message.
    #[error("the message is too large")]
    TooLarge,
}

impl PeerError {
    /// Returns the code that a client would hear.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotSent(NotSent::TooLarge) => ErrorCode::InvalidRequest,
            Self::NotSent(_) | Self::Lost => ErrorCode::ServiceUnavailable,
            Self::Refused(error) => error.code(),
        }
    }

    /// Tells whether the same request may be sent again without running twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotSent(reason) => *reason != NotSent::TooLarge,
            Self::Lost => false,
            Self::Refused(error) => error.is_retryable(),
        }
    }
}

impl From<NotSent> for PeerError {
    fn from(reason: NotSent) -> Self {
        Self::NotSent(reason)
    }
}
