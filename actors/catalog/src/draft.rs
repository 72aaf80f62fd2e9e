//! From what an administrator writes to a [`Contract`] that can't be wrong.

use std::collections::{BTreeSet, HashSet};

use aesp_proto::{TenantId, v1};
use semver::Version;
use serde_json::Value;

use crate::{
    CedarType, Classification, Contract, Effects, Error, Risk, Visible,
    contract::Content,
    document,
    schema::{self, MAX_SCHEMA_BYTES},
};

/// The longest time that a call may take.
const MAX_TIMEOUT_MS: u32 = 600_000;
const MAX_DESCRIPTION_BYTES: usize = 16 * 1024;
const MAX_LISTED: usize = 50;

impl Contract {
    /// Checks a draft. `offered_to` are the tenants that the draft names, resolved by the caller.
    ///
    /// # Errors
    /// [`Error::InvalidContract`] or [`Error::InvalidSchema`] with the first thing that is wrong.
    pub fn from_draft(draft: &v1::ContractDraft, offered_to: BTreeSet<TenantId>) -> Result<Self, Error> {
        check_name(&draft.name)?;
        if draft.description.len() > MAX_DESCRIPTION_BYTES {
            return invalid("the description is longer than 16 KiB");
        }
        if !(1..=MAX_TIMEOUT_MS).contains(&draft.timeout_ms) {
            return invalid("timeout_ms is from 1 to 600000");
        }
        if offered_to.len() > 1000 {
            return invalid("a contract is offered to at most 1000 tenants");
        }
        let parameters = read_schema("parameters", &draft.parameters_json)?;
        if parameters.get("type").and_then(Value::as_str) != Some("object") {
            return Err(Error::InvalidSchema {
                which: "parameters",
                reason: "its type must be \"object\"".into(),
            });
        }
        let result = if draft.return_type_json.is_empty() {
            Value::Bool(true)
        } else {
            read_schema("result", &draft.return_type_json)?
        };
        let chunk = match (draft.supports_streaming, draft.chunk_schema_json.is_empty()) {
            (true, false) => Some(read_schema("chunk", &draft.chunk_schema_json)?),
            (false, true) => None,
            (true, true) => return invalid("a contract that supports streaming has a chunk schema"),
            (false, false) => return invalid("a contract with a chunk schema supports streaming"),
        };
        Ok(Self::new(Content {
            name: draft.name.clone(),
            version: version(&draft.version)?,
            description: draft.description.clone(),
            result,
            chunk,
            effects: effects(draft)?,
            risk: risk(draft)?,
            timeout_ms: draft.timeout_ms,
            classification: classification(&draft.security_classification)?,
            required_roles: listed("required_roles", &draft.required_roles)?,
            tags: listed("tags", &draft.tags)?,
            offered_to,
            policy_visible: visible(draft, &parameters)?,
            parameters,
        }))
    }

    /// Checks a tool that a Runtime registers itself, in DEVELOPMENT mode, for one session. The contract says so wherever it
    /// appears, is never stored in a catalogue, and belongs to nobody but that session.
    ///
    /// # Errors
    /// As [`from_draft`](Self::from_draft); it can't be offered to anybody either.
    pub fn development(draft: &v1::ContractDraft) -> Result<Self, Error> {
        if !draft.offered_to.is_empty() {
            return invalid("a development contract is for one session and can't be offered");
        }
        Self::from_draft(draft, BTreeSet::new()).map(Self::for_development)
    }
}

fn invalid<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::InvalidContract(what.into()))
}

/// Checks the name of a tool.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if first && rest && name.len() <= 64 {
        return Ok(());
    }
    invalid("a name is a letter or underscore, then at most 63 letters, digits, underscores or hyphens")
}

fn version(text: &str) -> Result<Version, Error> {
    let parsed = if text.len() <= 64 { Version::parse(text).ok() } else { None };
    parsed.ok_or_else(|| {
        Error::InvalidContract("version is a semantic version of at most 64 characters, such as 1.0.0".into())
    })
}

fn read_schema(which: &'static str, json: &[u8]) -> Result<Value, Error> {
    let refused = |reason| Error::InvalidSchema { which, reason };
    let value = document::parse(json, MAX_SCHEMA_BYTES).map_err(refused)?;
    schema::check(&value).map_err(refused)?;
    schema::compile(&value).map_err(refused)?;
    Ok(value)
}

fn effects(draft: &v1::ContractDraft) -> Result<Effects, Error> {
    match v1::Effects::try_from(draft.effects) {
        Ok(v1::Effects::ReadOnly) => Ok(Effects::ReadOnly),
        Ok(v1::Effects::Idempotent) => Ok(Effects::Idempotent),
        Ok(v1::Effects::NonIdempotent) => Ok(Effects::NonIdempotent),
        Ok(v1::Effects::Unspecified) | Err(_) => {
            invalid("effects is READ_ONLY, IDEMPOTENT or NON_IDEMPOTENT")
        }
    }
}

fn risk(draft: &v1::ContractDraft) -> Result<Risk, Error> {
    match v1::Risk::try_from(draft.risk) {
        Ok(v1::Risk::Low) => Ok(Risk::Low),
        Ok(v1::Risk::Medium) => Ok(Risk::Medium),
        Ok(v1::Risk::High) => Ok(Risk::High),
        Ok(v1::Risk::Unspecified) | Err(_) => invalid("risk is LOW, MEDIUM or HIGH"),
    }
}

fn classification(text: &str) -> Result<Classification, Error> {
    let all = [
        Classification::Public,
        Classification::Internal,
        Classification::Confidential,
        Classification::Restricted,
    ];
    let found = all.into_iter().find(|classification| classification.as_str() == text);
    found.ok_or_else(|| {
        Error::InvalidContract(
            "security_classification is PUBLIC, INTERNAL, CONFIDENTIAL or RESTRICTED".into(),
        )
    })
}

fn listed(what: &str, texts: &[String]) -> Result<Vec<String>, Error> {
    let wellformed = |text: &String| (1..=64).contains(&text.len()) && !text.chars().any(char::is_control);
    let distinct: HashSet<_> = texts.iter().collect();
    if texts.len() > MAX_LISTED || distinct.len() != texts.len() || !texts.iter().all(wellformed) {
        return invalid(format!("{what} are at most {MAX_LISTED} different texts of 1 to 64 bytes"));
    }
    Ok(texts.to_vec())
}

fn visible(draft: &v1::ContractDraft, parameters: &Value) -> Result<Vec<Visible>, Error> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    if draft.policy_visible.len() > MAX_LISTED {
        return invalid(format!("policy_visible are at most {MAX_LISTED}"));
    }
    for declared in &draft.policy_visible {
        let all = [
            CedarType::String,
            CedarType::Long,
            CedarType::Boolean,
            CedarType::Decimal,
            CedarType::StringSet,
        ];
        let Some(cedar_type) = all.into_iter().find(|kind| kind.as_str() == declared.cedar_type) else {
            return invalid("cedar_type is String, Long, Boolean, Decimal or Set<String>");
        };
        if !seen.insert(&declared.path) {
            return invalid(format!("policy_visible names {:?} twice", declared.path));
        }
        let Some(schema) = property(parameters, &declared.path) else {
            return invalid(format!(
                "policy_visible {:?} is not a declared property of the arguments",
                declared.path
            ));
        };
        if !suits(schema, cedar_type) {
            return invalid(format!(
                "policy_visible {:?} is not declared as a {}",
                declared.path,
                cedar_type.as_str()
            ));
        }
        out.push(Visible { path: declared.path.clone(), cedar_type });
    }
    Ok(out)
}

/// Returns the schema of the property at a pointer such as `/filter/limit`.
fn property<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    if path.len() > 200 {
        return None;
    }
    path.strip_prefix('/')?
        .split('/')
        .try_fold(schema, |at, token| at.get("properties")?.get(token.replace("~1", "/").replace("~0", "~")))
}

/// Tells whether the schema's own type, if it has one, can be given as the Cedar type. Where it has none, a document that does
/// not fit is refused when it comes.
fn suits(schema: &Value, cedar_type: CedarType) -> bool {
    let Some(declared) = schema.get("type").and_then(Value::as_str) else { return true };
    match cedar_type {
        CedarType::String => declared == "string",
        CedarType::Long => declared == "integer",
        CedarType::Boolean => declared == "boolean",
        CedarType::Decimal => declared == "number" || declared == "integer",
        CedarType::StringSet => declared == "array",
    }
}
