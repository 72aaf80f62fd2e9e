use std::sync::Arc;

use aesp_call::Views;
use aesp_proto::{
    Result, SessionId, TenantId,
    v1::{ContractDraft, ContractReference},
};
use aesp_runtime::{Admission, Directory, Registration, Rights, RuntimeSlot};
use aesp_tenant::{RuntimeMode, Tenants};
use async_trait::async_trait;

/// Shows Runtime connections the node's snapshots. A tenant whose view is not loaded fulfils nothing: connections are opened
/// only after the views of the tenants that their registration names were.
pub(crate) struct ViewDirectory(pub(crate) Views);

impl Directory for ViewDirectory {
    fn registration(&self, runtime_id: &str) -> Option<Arc<Registration>> {
        self.0.registrations().get(runtime_id)
    }

    fn tenant(&self, id_or_name: &str) -> Option<TenantId> {
        if let Ok(id) = id_or_name.parse() {
            return Some(id);
        }
        self.0
            .loaded()
            .into_iter()
            .find(|view| view.tenant.row().name == id_or_name)
            .map(|view| view.tenant.id())
    }

    fn contract(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<&str>,
    ) -> std::result::Result<ContractReference, String> {
        let view = self.0.peek(tenant).ok_or("the tenant can't be served at the moment")?;
        if let Some(refusal) = view.tenant.refuses_calls() {
            return Err(refusal.to_string());
        }
        let found = view
            .catalog
            .find(name, version)
            .ok_or("no active contract of this name and version is offered")?;
        Ok(found.contract().reference())
    }

    fn rights(&self, tenant: TenantId) -> Option<Rights> {
        self.0.peek(tenant).map(|view| view.rights())
    }

    fn contracts(&self, tenant: TenantId) -> Vec<ContractReference> {
        self.0.peek(tenant).map(|view| view.catalog.references()).unwrap_or_default()
    }

    fn development(&self, tenant: TenantId) -> bool {
        self.0
            .peek(tenant)
            .is_some_and(|view| view.tenant.config().runtime_mode() == RuntimeMode::Development)
    }

    fn check_draft(
        &self,
        _tenant: TenantId,
        _session: SessionId,
        draft: &ContractDraft,
    ) -> std::result::Result<(), String> {
        aesp_catalog::Contract::development(draft).map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Counts connected Runtimes against their tenants' quotas.
pub(crate) struct RuntimeQuota {
    pub(crate) views: Views,
    pub(crate) tenants: Tenants,
}

#[async_trait]
impl Admission for RuntimeQuota {
    async fn admit(&self, tenants: &[TenantId]) -> Result<RuntimeSlot> {
        let mut slots = Vec::with_capacity(tenants.len());
        let mut suspended = None;
        for tenant in tenants {
            let view = self.views.get(*tenant).await?;
            // INVARIANT T1: a suspended tenant takes no Runtime away from the others that it serves. It fulfils nothing itself.
            match view.tenant.refuses_calls() {
                Some(refusal) => suspended = Some(refusal),
                None => slots.push(self.tenants.admit_runtime(&view.tenant).await?),
            }
        }
        match suspended {
            Some(refusal) if slots.is_empty() => Err(refusal.into()),
            _ => Ok(Box::new(slots)),
        }
    }
}
