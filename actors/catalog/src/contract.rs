use std::{collections::BTreeSet, fmt, time::Duration};

use aesp_proto::{TenantId, v1};
use data_encoding::HEXLOWER;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What running a tool twice would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Effects {
    /// Nothing at all changes.
    ReadOnly,
    /// The same as once.
    Idempotent,
    /// Something else: it is never dispatched twice.
    NonIdempotent,
}

/// How much harm a tool can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Risk {
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much: the intent is recorded before the call is dispatched.
    High,
}

/// Who may see what a tool handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Classification {
    /// Everybody.
    Public,
    /// The organisation.
    Internal,
    /// Those who need to know.
    Confidential,
    /// Those named.
    Restricted,
}

/// The Cedar type of an argument that policies may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CedarType {
    /// Text.
    String,
    /// A 64-bit integer.
    Long,
    /// True or false.
    Boolean,
    /// A number with at most four decimal places.
    Decimal,
    /// A set of texts.
    #[serde(rename = "Set<String>")]
    StringSet,
}

/// An argument that policies may read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Visible {
    /// JSON pointer into the arguments.
    pub path: String,
    /// Its type for policies.
    pub cedar_type: CedarType,
}

/// The SHA-256 over a contract's canonical JSON (RFC 8785): what was reviewed is what is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a contract says. The order and names of its fields are part of the digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) description: String,
    pub(crate) parameters: Value,
    pub(crate) result: Value,
    pub(crate) chunk: Option<Value>,
    pub(crate) effects: Effects,
    pub(crate) risk: Risk,
    pub(crate) timeout_ms: u32,
    pub(crate) classification: Classification,
    pub(crate) required_roles: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) offered_to: BTreeSet<TenantId>,
    pub(crate) policy_visible: Vec<Visible>,
}

/// A valid tool contract, content-addressed: the Host's own description of what a tool takes, gives and does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    content: Content,
    digest: Digest,
    development: bool,
}

impl Contract {
    pub(crate) fn new(content: Content) -> Self {
        let canonical =
            serde_jcs::to_vec(&content).expect("strings, numbers and maps with text keys serialise");
        Self { digest: Digest(Sha256::digest(canonical).into()), content, development: false }
    }

    /// Marks the contract as one that a Runtime registered itself, for one session.
    pub(crate) fn for_development(mut self) -> Self {
        self.development = true;
        self
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.content.name
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.content.version
    }

    /// Returns the description, for people and models.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.content.description
    }

    /// Returns the schema of the arguments.
    #[must_use]
    pub fn parameters(&self) -> &Value {
        &self.content.parameters
    }

    /// Returns the schema of the result.
    #[must_use]
    pub fn result(&self) -> &Value {
        &self.content.result
    }

    /// Returns the schema of a part of a streamed result.
    #[must_use]
    pub fn chunk(&self) -> Option<&Value> {
        self.content.chunk.as_ref()
    }

    /// Tells whether results may be streamed.
    #[must_use]
    pub fn supports_streaming(&self) -> bool {
        self.content.chunk.is_some()
    }

    /// Returns what running the tool twice would do.
    #[must_use]
    pub fn effects(&self) -> Effects {
        self.content.effects
    }

    /// Returns how much harm the tool can do.
    #[must_use]
    pub fn risk(&self) -> Risk {
        self.content.risk
    }

    /// Returns how long a call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.content.timeout_ms.into())
    }

    /// Returns who may see what the tool handles.
    #[must_use]
    pub fn classification(&self) -> Classification {
        self.content.classification
    }

    /// Returns the roles of which a caller must have every one.
    #[must_use]
    pub fn required_roles(&self) -> &[String] {
        &self.content.required_roles
    }

    /// Returns the tags.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.content.tags
    }

    /// Returns the tenants that it is offered to, beside its owner.
    #[must_use]
    pub fn offered_to(&self) -> &BTreeSet<TenantId> {
        &self.content.offered_to
    }

    /// Returns the arguments that policies may read.
    #[must_use]
    pub fn policy_visible(&self) -> &[Visible] {
        &self.content.policy_visible
    }

    /// Returns the digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Tells whether a Runtime registered it itself, for one session.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.development
    }

    /// Returns the contract as Runtimes name it.
    #[must_use]
    pub fn reference(&self) -> v1::ContractReference {
        v1::ContractReference {
            name: self.name().to_owned(),
            version: self.version().to_string(),
            digest: self.digest.0.to_vec(),
        }
    }
}

impl Effects {
    /// Returns the name that policies and clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        v1::Effects::from(self).as_str_name()
    }
}

impl Risk {
    /// Returns the name that policies and clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        v1::Risk::from(self).as_str_name()
    }
}

impl Classification {
    /// Returns the name that policies and clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "PUBLIC",
            Self::Internal => "INTERNAL",
            Self::Confidential => "CONFIDENTIAL",
            Self::Restricted => "RESTRICTED",
        }
    }
}

impl CedarType {
    /// Returns the name in contracts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::Long => "Long",
            Self::Boolean => "Boolean",
            Self::Decimal => "Decimal",
            Self::StringSet => "Set<String>",
        }
    }
}

impl From<Effects> for v1::Effects {
    fn from(effects: Effects) -> Self {
        match effects {
            Effects::ReadOnly => Self::ReadOnly,
            Effects::Idempotent => Self::Idempotent,
            Effects::NonIdempotent => Self::NonIdempotent,
        }
    }
}

impl From<Risk> for v1::Risk {
    fn from(risk: Risk) -> Self {
        match risk {
            Risk::Low => Self::Low,
            Risk::Medium => Self::Medium,
            Risk::High => Self::High,
        }
    }
}
