use std::sync::Arc;

use aesp_audit::Receipt;
use aesp_proto::{
    Error, ErrorCode, EventId,
    v1::{FunctionResult, Outcome, StreamChunk},
};

use crate::{View, validated::Standing};

/// How a call ended, before its record.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The Runtime answered, and the answer satisfies the contract.
    Answered(FunctionResult),
    /// It had no effect, or may be repeated: nothing is kept, and the client may try again under the same id.
    Refused(Error),
    /// It ran and failed for good; a repeat gets the same answer.
    Failed(Error),
    /// It may have had its effect, and may not be repeated.
    Unknown(Error),
}

/// A recorded answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) result: FunctionResult,
    pub(crate) event: EventId,
    pub(crate) replayed: bool,
    /// For the record of the answer; of a replay, for that of the replay.
    pub(crate) receipt: Option<Receipt>,
    /// The last part of a stream, which waited for the record.
    pub(crate) last: Option<StreamChunk>,
    /// What the answer was permitted by, for what is read later.
    pub(crate) right: Option<(Arc<View>, Arc<Standing>)>,
}

impl Ending {
    /// Returns what the record says of it.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Answered(result) if result.error.is_none() => Outcome::Success,
            Self::Answered(_) | Self::Failed(_) | Self::Unknown(_) => Outcome::Failure,
            Self::Refused(error) if is_denial(error.code()) => Outcome::Denied,
            Self::Refused(_) => Outcome::Failure,
        }
    }

    /// Returns the code and text of what went wrong, for the record.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Answered(result) => match &result.error {
                Some(error) => format!("TOOL_FAILED: {}", error.r#type),
                None => String::new(),
            },
            Self::Refused(error) | Self::Failed(error) | Self::Unknown(error) => {
                format!("{}: {}", error.code().as_str_name(), error.message())
            }
        }
    }
}

/// Tells a decision against the caller from a failure.
pub(crate) fn is_denial(code: ErrorCode) -> bool {
    use ErrorCode as E;
    matches!(
        code,
        E::AuthorizationDenied
            | E::InsufficientPermissions
            | E::RoleRequired
            | E::TenantAccessDenied
            | E::TenantSuspended
            | E::PolicyViolation
            | E::PolicyEvaluationFailed
            | E::MfaRequired
            | E::SchemaViolation
            | E::SessionInvalid
            | E::ToolNotFound
            | E::InvalidCredentials
            | E::AuthenticationFailed
            | E::CertificateInvalid
            | E::PermissionDenied
    )
}

/// The answer for a call that may have had its effect.
pub(crate) fn outcome_unknown(what: &str) -> Error {
    Error::new(ErrorCode::OutcomeUnknown, format!("the call may or may not have had its effect: {what}")).remedy(
        "ask again with the same invocation id (AgentService.GetInvocation); an operator settles it with: aesp call resolve",
    )
}
