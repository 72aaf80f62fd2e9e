use aesp_proto::{PrincipalId, TenantId, Timestamp, v1};

use crate::{CertificateIdentity, PrincipalName, rows::PrincipalRow};

/// A user, service account or system account, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The random id, for ever.
    pub id: PrincipalId,
    /// The tenant, for ever.
    pub tenant: TenantId,
    /// What stands behind it.
    pub kind: v1::PrincipalType,
    /// Unique in the tenant.
    pub name: PrincipalName,
    /// Active or revoked; nothing leads back from revoked.
    pub status: v1::PrincipalStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// The certificates that may act as it.
    pub certificate_identities: Vec<CertificateIdentity>,
    /// How often everything that it held was revoked. Tokens carry the number they were issued under, and older ones are
    /// refused. A count and not a time, because it holds whatever the clocks of the nodes say.
    pub generation: u64,
}

impl Principal {
    /// Tells whether the principal may act at all.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == v1::PrincipalStatus::PrincipalActive
    }

    /// Tells whether certificates with this identity may act as the principal.
    #[must_use]
    pub fn has_certificate(&self, identity: &str) -> bool {
        self.certificate_identities.iter().any(|bound| bound.as_str() == identity)
    }

    pub(crate) fn from_row(tenant: TenantId, id: PrincipalId, row: PrincipalRow) -> Self {
        Self {
            id,
            tenant,
            kind: row.kind.into(),
            name: row.name,
            status: row.status.into(),
            created_at: row.created_at,
            certificate_identities: row.certificate_identities,
            generation: row.generation,
        }
    }
}

impl From<&Principal> for v1::Principal {
    /// The roles are the policy component's to add.
    fn from(principal: &Principal) -> Self {
        Self {
            principal_id: principal.id.to_string(),
            tenant_id: principal.tenant.to_string(),
            r#type: principal.kind.into(),
            name: principal.name.to_string(),
            status: principal.status.into(),
            roles: Vec::new(),
            created_at_ms: principal.created_at.0,
            certificate_identities: principal
                .certificate_identities
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}
