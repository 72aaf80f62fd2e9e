use std::time::Duration;

use aesp_proto::ErrorCode;
use ractor::ActorProcessingErr;

/// Why an actor gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// As many requests as the mailbox allows are waiting; nothing was sent.
    #[error("the actor's mailbox is full")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// No answer before the deadline; the request may still be handled.
    #[error("the actor did not answer in time")]
    TimedOut,
    /// The actor ended before it answered, or is not there any more; the request may have been handled.
    #[error("the actor is gone")]
    Gone,
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let (code, message, after) = match error {
            Error::Overloaded { retry_after } => {
                (ErrorCode::ResourceUnavailable, "the Host is overloaded", retry_after)
            }
            Error::TimedOut | Error::Gone => {
                (ErrorCode::ServiceUnavailable, "the Host could not answer in time", Duration::from_secs(1))
            }
        };
        Self::new(code, message).retry_after(after).because(error)
    }
}

/// What an actor returns from `pre_start` or `handle` when something outside, usually the store, is away. The supervisor
/// parks the actor with back-off and does not count a crash.
#[derive(Debug, thiserror::Error)]
#[error("what the actor depends on is unavailable")]
pub struct Unavailable(#[source] ActorProcessingErr);

impl Unavailable {
    /// Wraps the cause, ready to be returned from an actor.
    pub fn because(cause: impl Into<ActorProcessingErr>) -> ActorProcessingErr {
        Box::new(Self(cause.into()))
    }
}

/// The actor's code panicked; carries the panic's text.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
pub(crate) struct Panicked(pub(crate) String);
