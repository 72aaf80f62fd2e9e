use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::OnceLock,
};

use aesp_proto::{PrincipalId, TenantId, Timestamp, TokenId, v1};
use aesp_storage::{Blind, Kind, Row, RowKey, Transaction, encode};
use serde::{Deserialize, Serialize};

use crate::{Error, Role, SCHEMA, text};

/// Roles lie under the blind index of their names.
impl Row for Role {
    const KIND: Kind = Kind::ROLE;
    type Key = Blind;
}

/// That a principal has a role, perhaps until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Who.
    pub principal: PrincipalId,
    /// Which role, by its name.
    pub role: String,
    /// Until when; without end if there is none.
    pub expires_at: Option<Timestamp>,
}

impl Assignment {
    /// Tells whether the assignment counts at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

impl Row for Assignment {
    const KIND: Kind = Kind::ASSIGNMENT;
    type Key = (PrincipalId, Blind);
}

/// A policy text of a tenant: one or more Cedar policies that stand and fall together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPolicy {
    /// Names it in decisions.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Cedar source.
    pub text: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: PrincipalId,
    /// The fingerprint of the schema that it was validated against.
    pub(crate) schema: u64,
}

impl Row for StoredPolicy {
    const KIND: Kind = Kind::POLICY;
    type Key = TokenId;
}

impl StoredPolicy {
    /// Validates a policy text.
    ///
    /// # Errors
    /// [`Error::InvalidPolicy`] with everything that Cedar finds.
    pub fn new(
        id: TokenId,
        name: &str,
        text: String,
        created_by: PrincipalId,
        created_at: Timestamp,
    ) -> Result<Self, Error> {
        let faults = text::validate(&text);
        if !faults.is_empty() {
            return Err(Error::InvalidPolicy(faults));
        }
        let (name, description) = (name.to_owned(), String::new());
        Ok(Self { id, name, description, text, created_at, created_by, schema: schema_fingerprint() })
    }

    /// Returns the policy as it travels.
    #[must_use]
    pub fn to_wire(&self, tenant: TenantId) -> v1::Policy {
        v1::Policy {
            policy_id: self.id.to_string(),
            name: self.name.clone(),
            description: self.description.clone(),
            version: 1,
            text: self.text.clone(),
            enabled: true,
            created_at: self.created_at.0,
            updated_at: self.created_at.0,
            created_by: self.created_by.to_string(),
            tenant_id: tenant.to_string(),
        }
    }
}

/// Returns the fingerprint of the schema. A policy that was validated against another is validated again when it is loaded.
pub(crate) fn schema_fingerprint() -> u64 {
    static FINGERPRINT: OnceLock<u64> = OnceLock::new();
    *FINGERPRINT.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        SCHEMA.hash(&mut hasher);
        hasher.finish()
    })
}

/// Reads the assignments of one principal.
pub(crate) async fn assignments_of(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
) -> Result<Vec<Assignment>, Error> {
    Ok(tx.scan_all::<Assignment>(tenant, principal_prefix(principal)).await?)
}

fn principal_prefix(principal: PrincipalId) -> Vec<u8> {
    fn encoded(key: &impl RowKey) -> Vec<u8> {
        encode(key)
    }
    encoded(&principal)
}
