use std::fmt;

use aesp_proto::v1::ToolError;

/// How a tool failed, as its caller sees it: a type for programs and a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolFailure {
    kind: String,
    message: String,
}

impl ToolFailure {
    /// The type of a failure that is the tool's own and has no other name.
    pub const FAILED: &'static str = "TOOL_FAILED";
    /// The tool is not here.
    pub const NOT_FOUND: &'static str = "TOOL_NOT_FOUND";
    /// Arguments or result are not of the agreed form.
    pub const SCHEMA_VIOLATION: &'static str = "SCHEMA_VIOLATION";
    /// The way to the tool broke; it may or may not have run.
    pub const TRANSPORT_ERROR: &'static str = "TRANSPORT_ERROR";
    /// The Runtime refuses calls at the moment; the tool did not run.
    pub const UNAVAILABLE: &'static str = "SERVICE_UNAVAILABLE";
    /// The time of the call was over.
    pub const DEADLINE_EXCEEDED: &'static str = "DEADLINE_EXCEEDED";
    /// The Host, or its caller, ended the call.
    pub const CANCELLED: &'static str = "CANCELLED";
    /// The handler broke.
    pub const INTERNAL: &'static str = "INTERNAL_ERROR";
    /// The result exceeds the limit of this Runtime.
    pub const RESULT_TOO_LARGE: &'static str = "RESULT_TOO_LARGE";

    /// Creates a failure of the type [`ToolFailure::FAILED`]. `message` reaches the agent: no secrets.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of_type(Self::FAILED, message)
    }

    /// Creates a failure of a type of its own, in capitals by convention.
    pub fn of_type(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into() }
    }

    /// Returns the type.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for ToolFailure {}

impl From<ToolError> for ToolFailure {
    fn from(error: ToolError) -> Self {
        Self { kind: error.r#type, message: error.message }
    }
}

impl From<ToolFailure> for ToolError {
    fn from(failure: ToolFailure) -> Self {
        Self { message: failure.message, r#type: failure.kind }
    }
}
