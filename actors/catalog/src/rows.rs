use aesp_proto::{PrincipalId, TenantId, Timestamp, v1};
use aesp_storage::{Blind, Kind, Row};
use serde::{Deserialize, Serialize};

use crate::{Contract, Digest, contract::Content};

/// Where a version of a contract stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Stored; nothing can be called by it.
    Draft,
    /// In service.
    Active,
    /// Out of service for good.
    Retired,
}

/// Where a contract came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// An administrator wrote it.
    Administrator,
    /// An ADM manifest.
    Adm,
    /// An MCP server's list of tools.
    Mcp,
}

/// One version of a contract as its owner's catalogue holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredContract {
    pub(crate) content: Content,
    pub(crate) digest: Digest,
    /// Where it stands.
    pub status: Status,
    /// Where it came from.
    pub origin: Origin,
    /// Who activated it, and when.
    pub activated: Option<(PrincipalId, Timestamp)>,
    /// Why it was retired.
    pub retired_because: Option<String>,
}

/// Versions lie under the blind indexes of name and version.
impl Row for StoredContract {
    const KIND: Kind = Kind::CONTRACT;
    type Key = (Blind, Blind);
}

/// Which version of a name is meant when none is said: the one activated last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DefaultVersion {
    pub(crate) name: String,
    pub(crate) version: semver::Version,
}

impl Row for DefaultVersion {
    const KIND: Kind = Kind::ACTIVE_CONTRACT;
    type Key = Blind;
}

impl Status {
    /// Returns the status as it travels.
    #[must_use]
    pub fn to_wire(self) -> v1::ContractStatus {
        match self {
            Self::Draft => v1::ContractStatus::Draft,
            Self::Active => v1::ContractStatus::Active,
            Self::Retired => v1::ContractStatus::Retired,
        }
    }
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Adm => "adm",
            Self::Mcp => "mcp",
        }
    }
}

impl StoredContract {
    pub(crate) fn draft(contract: &Contract, origin: Origin) -> Self {
        Self {
            content: contract.content().clone(),
            digest: contract.digest(),
            status: Status::Draft,
            origin,
            activated: None,
            retired_because: None,
        }
    }

    /// Returns the contract itself.
    #[must_use]
    pub fn contract(&self) -> Contract {
        Contract::new(self.content.clone())
    }

    /// Returns the contract as it travels.
    #[must_use]
    pub fn to_wire(&self, owner: TenantId) -> v1::EnterpriseToolContract {
        let (approved_by, approved_at) = match self.activated {
            Some((who, when)) => (who.to_string(), when.0),
            None => (String::new(), 0),
        };
        v1::EnterpriseToolContract {
            approval_status: self.status.to_wire().into(),
            approved_by,
            approved_at,
            origin: self.origin.as_str().to_owned(),
            owner_tenant_id: owner.to_string(),
            ..self.contract().to_wire()
        }
    }
}

impl Contract {
    /// Returns the contract as it travels, without what only its row knows.
    #[must_use]
    pub fn to_wire(&self) -> v1::EnterpriseToolContract {
        let visible = self.policy_visible().iter();
        v1::EnterpriseToolContract {
            name: self.name().to_owned(),
            contract_version: self.version().to_string(),
            description: self.description().to_owned(),
            parameters: self.parameters().to_string().into_bytes(),
            return_type: self.result().to_string().into_bytes(),
            chunk_schema: self.chunk().map(|chunk| chunk.to_string().into_bytes()).unwrap_or_default(),
            supports_streaming: self.supports_streaming(),
            security_classification: self.classification().as_str().to_owned(),
            required_roles: self.required_roles().to_vec(),
            compliance_tags: self.tags().to_vec(),
            risk_assessment: v1::Risk::from(self.risk()).into(),
            effects: v1::Effects::from(self.effects()).into(),
            timeout_ms: u32::try_from(self.timeout().as_millis()).unwrap_or(u32::MAX),
            offered_to: self.offered_to().iter().map(ToString::to_string).collect(),
            policy_visible: visible
                .map(|v| v1::PolicyVisible {
                    path: v.path.clone(),
                    cedar_type: v.cedar_type.as_str().to_owned(),
                })
                .collect(),
            digest: self.digest().as_bytes().to_vec(),
            origin: if self.is_development() { "development".to_owned() } else { String::new() },
            ..v1::EnterpriseToolContract::default()
        }
    }
}
