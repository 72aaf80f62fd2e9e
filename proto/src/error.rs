use std::time::Duration;

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::v1::{EnterpriseError, ErrorCode};

/// The result of everything that a client may hear about.
pub type Result<T, E = Error> = std::result::Result<T, E>;

const DETAIL_TYPE: &str = "type.googleapis.com/aesp.v1.EnterpriseError";

/// A refusal as the client sees it: a stable code, a text without internal detail, and what to do next. What went wrong
/// inside is the `source`, which is logged and never sent.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: ErrorCode,
    message: String,
    remediation: Option<String>,
    retry_after: Option<Duration>,
    decision_id: Option<String>,
    correlation_id: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates a refusal; `message` is for the client's eyes.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            remediation: None,
            retry_after: None,
            decision_id: None,
            correlation_id: None,
            source: None,
        }
    }

    /// Creates the refusal of a malformed field.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// Creates the answer for something that went wrong inside; the client learns nothing but that.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorCode::InternalError, "the Host could not complete the request").because(source)
    }

    /// Adds the next step for the client.
    #[must_use]
    pub fn remedy(mut self, step: impl Into<String>) -> Self {
        self.remediation = Some(step.into());
        self
    }

    /// Says when a retry may succeed.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Names the decision that refused.
    #[must_use]
    pub fn decided_by(mut self, decision: impl ToString) -> Self {
        self.decision_id = Some(decision.to_string());
        self
    }

    /// Names the request, so that the client's report and the Host's log meet.
    #[must_use]
    pub fn correlated(mut self, correlation_id: impl Into<String>) -> Self {
        self.correlation_id = Some(correlation_id.into());
        self
    }

    /// Adds the internal cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns the client's text.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns how long to wait before trying again, if that can help.
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retry_after.is_some()
            || matches!(
                self.code,
                ErrorCode::ServiceUnavailable
                    | ErrorCode::ResourceUnavailable
                    | ErrorCode::RateLimitExceeded
                    | ErrorCode::TransportError
            )
    }

    /// Returns the details that travel with the gRPC status.
    #[must_use]
    pub fn to_details(&self) -> EnterpriseError {
        EnterpriseError {
            code: self.code.into(),
            message: self.message.clone(),
            correlation_id: self.correlation_id.clone().unwrap_or_default(),
            retry_after_ms: self.retry_after.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            remediation_steps: self.remediation.clone().into_iter().collect(),
            decision_id: self.decision_id.clone().unwrap_or_default(),
            ..EnterpriseError::default()
        }
    }

    /// Reads an error back from its details, on the client's side.
    #[must_use]
    pub fn from_details(details: EnterpriseError) -> Self {
        let code = details.code();
        let nonempty = |text: String| (!text.is_empty()).then_some(text);
        Self {
            code: if code == ErrorCode::Unspecified { ErrorCode::InternalError } else { code },
            message: details.message,
            remediation: details.remediation_steps.into_iter().next(),
            retry_after: (details.retry_after_ms > 0).then(|| Duration::from_millis(details.retry_after_ms)),
            decision_id: nonempty(details.decision_id),
            correlation_id: nonempty(details.correlation_id),
            source: None,
        }
    }

    /// Reads an error back from a gRPC status; a status without our details becomes a `TRANSPORT_ERROR`.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let details = pb::Status::decode(status.details())
            .ok()
            .and_then(|s| s.details.into_iter().find(|any| any.type_url == DETAIL_TYPE))
            .and_then(|any| EnterpriseError::decode(any.value.as_slice()).ok());
        match details {
            Some(details) => Self::from_details(details),
            None => {
                Self::new(ErrorCode::TransportError, format!("{:?}: {}", status.code(), status.message()))
            }
        }
    }

    /// Returns the status of an HTTP answer: the one that stands for the gRPC status.
    ///
    /// Source: google/rpc/code.proto.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match grpc_code(self.code) {
            Code::Ok => 200,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::AlreadyExists | Code::Aborted => 409,
            Code::ResourceExhausted => 429,
            Code::Cancelled => 499,
            Code::Unimplemented => 501,
            Code::Unavailable => 503,
            Code::DeadlineExceeded => 504,
            Code::Unknown | Code::Internal | Code::DataLoss => 500,
        }
    }

    /// Returns the next step that the Host suggests.
    #[must_use]
    pub fn remediation(&self) -> Option<&str> {
        self.remediation.as_deref()
    }

    /// Returns the decision that refused.
    #[must_use]
    pub fn decision_id(&self) -> Option<&str> {
        self.decision_id.as_deref()
    }
}

/// Maps each code to its gRPC status. The only such table.
fn grpc_code(code: ErrorCode) -> Code {
    use ErrorCode as E;
    match code {
        E::AuthenticationFailed
        | E::InvalidCredentials
        | E::AccountLocked
        | E::PasswordExpired
        | E::MfaRequired
        | E::CertificateInvalid => Code::Unauthenticated,
        E::AuthorizationDenied
        | E::InsufficientPermissions
        | E::RoleRequired
        | E::SecurityClearanceInsufficient
        | E::TenantAccessDenied
        | E::PolicyViolation
        | E::PolicyEvaluationFailed
        | E::EmergencyOverrideRequired
        | E::ComplianceViolation
        | E::DataClassificationMismatch
        | E::RetentionPolicyViolation
        | E::SecurityThreatDetected
        | E::AnomalousBehavior
        | E::SuspiciousActivity
        | E::EncryptionRequired
        | E::TenantSuspended
        | E::PermissionDenied => Code::PermissionDenied,
        E::PolicyNotFound | E::ToolNotFound | E::NotFound => Code::NotFound,
        E::RateLimitExceeded | E::QuotaExceeded => Code::ResourceExhausted,
        E::ResourceUnavailable | E::ServiceUnavailable | E::TransportError | E::AuditRequirementNotMet => {
            Code::Unavailable
        }
        E::SchemaViolation | E::InvalidRequest => Code::InvalidArgument,
        E::SessionInvalid | E::StateConflict | E::ConfigurationError => Code::FailedPrecondition,
        E::OutcomeUnknown => Code::Unknown,
        E::Cancelled => Code::Cancelled,
        E::DeadlineExceeded => Code::DeadlineExceeded,
        E::ToolFailed => Code::Aborted,
        E::Unspecified | E::InternalError => Code::Internal,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = grpc_code(error.code);
        let message = error.message.clone();
        let status = pb::Status {
            code: code.into(),
            message: message.clone(),
            details: vec![Any { type_url: DETAIL_TYPE.into(), value: error.to_details().encode_to_vec() }],
        };
        Self::with_details(code, message, status.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_survive_the_wire_and_the_cause_does_not() {
        let error = Error::new(ErrorCode::QuotaExceeded, "too many sessions")
            .remedy("destroy one")
            .retry_after(Duration::from_millis(1500))
            .because("row 17 of table secret");
        let status = Status::from(error);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(!format!("{status:?}").contains("secret"));
        let back = Error::from_status(&status);
        assert_eq!(back.code(), ErrorCode::QuotaExceeded);
        assert_eq!(back.retry_delay(), Some(Duration::from_millis(1500)));
        assert_eq!(back.remediation(), Some("destroy one"));
    }
}
