use std::{collections::HashMap, sync::Arc};

use aesp_proto::{TenantId, Timestamp, v1};

/// What an administrator registered about a Runtime: which certificate may be it, and what it may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The id that the Runtime announces itself by.
    pub runtime_id: String,
    /// The one certificate identity that the id belongs to.
    pub certificate_identity: String,
    /// The tenants it may serve.
    pub tenants: Vec<TenantId>,
    /// The contract names it may fulfil; `*` for any that its tenants are offered.
    pub contracts: Vec<String>,
    /// The security zones it may claim.
    pub zones: Vec<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Whether it was revoked: no connection is accepted on it any more.
    pub revoked: bool,
}

impl Registration {
    /// Tells whether contracts of this name may be fulfilled.
    #[must_use]
    pub fn allows_contract(&self, name: &str) -> bool {
        self.contracts.iter().any(|allowed| allowed == "*" || allowed == name)
    }
}

impl From<&Registration> for v1::RuntimeRegistration {
    fn from(registration: &Registration) -> Self {
        Self {
            runtime_id: registration.runtime_id.clone(),
            certificate_identity: registration.certificate_identity.clone(),
            tenant_ids: registration.tenants.iter().map(ToString::to_string).collect(),
            contracts: registration.contracts.clone(),
            security_zones: registration.zones.clone(),
            created_at_ms: registration.created_at.0,
            revoked: registration.revoked,
        }
    }
}

/// Every registration, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Registrations {
    by_runtime: HashMap<String, Arc<Registration>>,
}

impl Registrations {
    /// Returns the registration of `runtime_id`, unless it was revoked.
    #[must_use]
    pub fn get(&self, runtime_id: &str) -> Option<Arc<Registration>> {
        self.by_runtime.get(runtime_id).filter(|found| !found.revoked).cloned()
    }

    /// Returns the tenants that Runtimes with this certificate identity may serve.
    #[must_use]
    pub fn tenants_of(&self, identity: &str) -> Vec<TenantId> {
        let own =
            self.by_runtime.values().filter(|found| !found.revoked && found.certificate_identity == identity);
        own.flat_map(|found| found.tenants.iter().copied()).collect()
    }

    /// Tells whether a Runtime with this certificate identity may fulfil contracts of this name for `tenant`.
    #[must_use]
    pub fn may_fulfil(&self, identity: &str, tenant: TenantId, contract: &str) -> bool {
        self.by_runtime.values().any(|found| {
            !found.revoked
                && found.certificate_identity == identity
                && found.tenants.contains(&tenant)
                && found.allows_contract(contract)
        })
    }

    /// Tells whether a certificate with this identity may be any Runtime at all.
    #[must_use]
    pub fn knows_identity(&self, identity: &str) -> bool {
        self.by_runtime.values().any(|found| !found.revoked && found.certificate_identity == identity)
    }
}

impl FromIterator<Registration> for Registrations {
    fn from_iter<I: IntoIterator<Item = Registration>>(registrations: I) -> Self {
        let by_runtime =
            registrations.into_iter().map(|found| (found.runtime_id.clone(), Arc::new(found))).collect();
        Self { by_runtime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: TenantId = TenantId::from_bytes([1; 16]);
    const GLOBEX: TenantId = TenantId::from_bytes([2; 16]);

    fn registration(runtime_id: &str, contracts: &[&str], revoked: bool) -> Registration {
        Registration {
            runtime_id: runtime_id.to_owned(),
            certificate_identity: format!("spiffe://test/{runtime_id}"),
            tenants: vec![ACME],
            contracts: contracts.iter().map(|&name| name.to_owned()).collect(),
            zones: Vec::new(),
            created_at: Timestamp(0),
            revoked,
        }
    }

    #[test]
    fn a_runtime_may_fulfil_what_it_is_registered_for_and_nothing_else() {
        let all: Registrations = [
            registration("any", &["*"], false),
            registration("one", &["echo"], false),
            registration("gone", &["*"], true),
        ]
        .into_iter()
        .collect();
        assert!(all.may_fulfil("spiffe://test/any", ACME, "pay"));
        assert!(all.may_fulfil("spiffe://test/one", ACME, "echo"));
        assert!(!all.may_fulfil("spiffe://test/one", ACME, "pay"), "another contract");
        assert!(!all.may_fulfil("spiffe://test/any", GLOBEX, "pay"), "another tenant");
        assert!(!all.may_fulfil("spiffe://test/gone", ACME, "pay"), "a revoked registration");
        assert!(!all.may_fulfil("spiffe://test/nobody", ACME, "pay"), "an unknown certificate");
        assert!(all.get("gone").is_none() && !all.knows_identity("spiffe://test/gone"));
        assert_eq!(all.tenants_of("spiffe://test/one"), [ACME]);
        assert!(all.tenants_of("spiffe://test/gone").is_empty());
    }
}
