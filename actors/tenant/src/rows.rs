use std::collections::BTreeMap;

use aesp_proto::{Revision, TenantId, Timestamp, v1};
use aesp_storage::{Blind, Kind, Row};
use serde::{Deserialize, Serialize};

use crate::Quotas;

/// Where a tenant is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It may do what its principals are permitted.
    Active,
    /// It may do nothing until it is resumed.
    Suspended,
    /// Its keys are destroyed; only this row is left.
    Deleted,
}

/// A tenant as it is stored, under the platform's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    /// Names it everywhere.
    pub id: TenantId,
    /// Its unique name.
    pub name: String,
    /// Its name for people; empty once it is deleted.
    pub display_name: String,
    /// Where it is in its life.
    pub status: Status,
    /// Why it is there.
    pub reason: String,
    /// What it may use.
    pub quotas: Quotas,
    /// When it was created.
    pub created_at: Timestamp,
    /// The operators' notes; empty once it is deleted.
    pub metadata: BTreeMap<String, String>,
}

impl Row for TenantRow {
    const KIND: Kind = Kind::TENANT;
    type Key = TenantId;
}

/// Leads from a name to its tenant. Never removed: a name must not come to mean somebody else.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NameRow {
    pub(crate) tenant: TenantId,
}

impl Row for NameRow {
    const KIND: Kind = Kind::TENANT_NAME;
    type Key = Blind;
}

impl Status {
    /// Returns the word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

impl From<Status> for v1::TenantStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::TenantActive,
            Status::Suspended => Self::Suspended,
            Status::Deleted => Self::TenantDeleted,
        }
    }
}

impl TenantRow {
    /// Returns the tenant as it is sent.
    #[must_use]
    pub fn to_wire(&self, revision: Revision) -> v1::Tenant {
        v1::Tenant {
            tenant_id: self.id.to_string(),
            name: self.name.clone(),
            display_name: self.display_name.clone(),
            status: v1::TenantStatus::from(self.status).into(),
            quotas: Some(self.quotas.into()),
            created_at_ms: self.created_at.0,
            metadata: self.metadata.clone().into_iter().collect(),
            revision: revision.0,
            status_reason: self.reason.clone(),
        }
    }
}
