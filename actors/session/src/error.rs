use std::time::Duration;

use aesp_proto::ErrorCode;

/// Why something about a session was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such session, it has ended, or it is another principal's.
    #[error("the session does not exist, has ended, or is not yours")]
    Invalid,
    /// A field is out of its range.
    #[error("{0}")]
    InvalidRequest(String),
    /// The invocation id is used by a running call with other arguments.
    #[error("this invocation_id is in use with other arguments")]
    OtherArguments,
    /// Calls run in the session; force its end, or wait.
    #[error("{running} calls run in the session")]
    CallsRunning {
        /// How many.
        running: usize,
    },
    /// The tenant's rights changed while this was decided; decide anew.
    #[error("the tenant's rights changed meanwhile")]
    RightsChanged,
    /// There is no such call, or its outcome is settled already.
    #[error("the call's outcome is not open")]
    NotOpen,
    /// The session is another node's, or moves at this moment; ask there, or again.
    #[error("the session moves between nodes")]
    Elsewhere(#[from] aesp_cluster::Error),
    /// The tenant refuses it.
    #[error(transparent)]
    Tenant(#[from] aesp_tenant::Error),
    /// The session's actor did not answer.
    #[error("the session's actor did not answer")]
    Actor(#[from] aesp_supervision::Error),
    /// It could not be recorded.
    #[error(transparent)]
    Audit(#[from] aesp_audit::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] aesp_storage::Error),
    /// A task of the Host ended early.
    #[error("a task ended early")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid => ErrorCode::SessionInvalid,
            Self::InvalidRequest(_) => ErrorCode::InvalidRequest,
            Self::OtherArguments | Self::CallsRunning { .. } | Self::NotOpen => ErrorCode::StateConflict,
            Self::RightsChanged | Self::Elsewhere(_) | Self::Actor(_) => ErrorCode::ServiceUnavailable,
            Self::Tenant(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Task(_) => ErrorCode::InternalError,
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RightsChanged | Self::Elsewhere(_) | Self::Actor(_) => true,
            Self::Tenant(error) => error.is_retryable(),
            Self::Audit(error) => error.is_retryable(),
            Self::Store(error) => error.code() == ErrorCode::ServiceUnavailable,
            _ => false,
        }
    }

    /// Tells whether the tenant's keys are destroyed: whatever there was, is gone.
    pub(crate) fn is_key_destroyed(&self) -> bool {
        use aesp_storage::Error::KeyDestroyed;
        matches!(
            self,
            Self::Store(KeyDestroyed { .. })
                | Self::Audit(aesp_audit::Error::Store(KeyDestroyed { .. }))
                | Self::Tenant(aesp_tenant::Error::Store(KeyDestroyed { .. }))
        )
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Invalid => "create a new session: AgentService.CreateSession",
            Self::OtherArguments => "choose a new invocation_id for every call",
            Self::CallsRunning { .. } => {
                "wait for them, or destroy the session with force, which cancels them"
            }
            Self::NotOpen => "look at the outcome first: AgentService.GetInvocation",
            _ => return None,
        })
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Tenant(error) => error.into(),
            Error::Actor(error) => error.into(),
            Error::Audit(error) => error.into(),
            Error::Store(error) => error.into(),
            Error::Task(error) => Self::internal(error),
            Error::RightsChanged => {
                Self::new(error.code(), error.to_string()).retry_after(Duration::from_millis(20))
            }
            Error::Elsewhere(_) => {
                Self::new(error.code(), error.to_string()).retry_after(Duration::from_millis(200))
            }
            error => {
                let refusal = Self::new(error.code(), error.to_string());
                match error.remedy() {
                    Some(remedy) => refusal.remedy(remedy),
                    None => refusal,
                }
            }
        }
    }
}
