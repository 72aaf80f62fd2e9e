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
