use std::{any::Any, sync::Arc};

use aesp_proto::{
    Result, SessionId, TenantId,
    v1::{ContractDraft, ContractReference},
};
use async_trait::async_trait;

use crate::{Registration, Rights};

/// What connections look up in the Host's snapshots. Never blocks, never waits.
pub trait Directory: Send + Sync + 'static {
    /// Returns the registration of `runtime_id`, unless it was revoked.
    fn registration(&self, runtime_id: &str) -> Option<Arc<Registration>>;

    /// Returns the tenant that a Runtime names by id or name.
    fn tenant(&self, id_or_name: &str) -> Option<TenantId>;

    /// Returns the contract that a Runtime would fulfil for `tenant`: the active version, or `version`.
    ///
    /// # Errors
    /// The reason for the Runtime's operator: unknown, not offered to the tenant, retired, the tenant suspended.
    fn contract(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<&str>,
    ) -> Result<ContractReference, String>;

    /// Returns which rights of the tenant this node has applied; nothing while it knows none, and then nothing is sent.
    fn rights(&self, tenant: TenantId) -> Option<Rights>;

    /// Returns the active contracts that `tenant` is offered.
    fn contracts(&self, tenant: TenantId) -> Vec<ContractReference>;

    /// Tells whether the tenant asked for DEVELOPMENT mode by name.
    fn development(&self, tenant: TenantId) -> bool;

    /// Checks a tool that a Runtime registers for one session of a tenant in DEVELOPMENT mode.
    ///
    /// # Errors
    /// The reason for the Runtime's operator.
    fn check_draft(&self, tenant: TenantId, session: SessionId, draft: &ContractDraft) -> Result<(), String>;
}

/// Held by a connection as long as it counts against its tenants' quotas.
pub type RuntimeSlot = Box<dyn Any + Send>;

/// Counts connected Runtimes against the tenants' quotas.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Admits one more connection that serves `tenants`.
    ///
    /// # Errors
    /// The refusal that the Runtime hears.
    async fn admit(&self, tenants: &[TenantId]) -> Result<RuntimeSlot>;
}
