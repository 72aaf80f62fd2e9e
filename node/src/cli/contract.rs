use aesp_proto::v1;
use serde::Deserialize;
use serde_json::Value;

use super::failure::Failure;

/// A contract as an administrator writes it in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContractFile {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    /// JSON Schema of the arguments.
    parameters: Value,
    /// JSON Schema of the result.
    return_type: Value,
    #[serde(default)]
    supports_streaming: bool,
    /// JSON Schema of one part of a stream.
    #[serde(default)]
    chunk_schema: Option<Value>,
    effects: Effects,
    risk: Risk,
    timeout_ms: u32,
    #[serde(default)]
    classification: String,
    #[serde(default)]
    required_roles: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    offered_to: Vec<String>,
    #[serde(default)]
    policy_visible: Vec<Visible>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Effects {
    ReadOnly,
    Idempotent,
    NonIdempotent,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Risk {
    Low,
    Medium,
    High,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Visible {
    path: String,
    cedar_type: String,
}

impl ContractFile {
    /// Reads the JSON of a file.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|error| {
            let next = "docs/cli.md shows a contract file; the line is where the text stops being one";
            Failure::usage(format!("the contract can't be read: {error}"), next)
        })
    }

    /// Returns the draft to send.
    pub(crate) fn into_draft(self) -> v1::ContractDraft {
        let json = |schema: &Value| schema.to_string().into_bytes();
        let effects = match self.effects {
            Effects::ReadOnly => v1::Effects::ReadOnly,
            Effects::Idempotent => v1::Effects::Idempotent,
            Effects::NonIdempotent => v1::Effects::NonIdempotent,
        };
        let risk = match self.risk {
            Risk::Low => v1::Risk::Low,
            Risk::Medium => v1::Risk::Medium,
            Risk::High => v1::Risk::High,
        };
        let visible = |v: Visible| v1::PolicyVisible { path: v.path, cedar_type: v.cedar_type };
        v1::ContractDraft {
            name: self.name,
            version: self.version,
            description: self.description,
            parameters_json: json(&self.parameters),
            return_type_json: json(&self.return_type),
            supports_streaming: self.supports_streaming,
            chunk_schema_json: self.chunk_schema.as_ref().map(json).unwrap_or_default(),
            effects: effects.into(),
            risk: risk.into(),
            timeout_ms: self.timeout_ms,
            security_classification: self.classification,
            required_roles: self.required_roles,
            tags: self.tags,
            offered_to: self.offered_to,
            policy_visible: self.policy_visible.into_iter().map(visible).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contract_file_becomes_a_draft_and_a_slip_is_refused() {
        let text = r#"{"name": "greet", "version": "1.0.0", "parameters": {"type": "object"}, "return_type": {},
            "effects": "read_only", "risk": "low", "timeout_ms": 1000}"#;
        let draft = ContractFile::parse(text).unwrap().into_draft();
        assert_eq!(draft.parameters_json, br#"{"type":"object"}"#);
        assert_eq!(draft.effects(), v1::Effects::ReadOnly);
        let failure = ContractFile::parse(&text.replace("risk", "rsik")).unwrap_err();
        assert_eq!(failure.exit_code(), 64);
        assert!(format!("{failure:?}").contains("line 2"));
    }
}
