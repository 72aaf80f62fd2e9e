use aesp_sdk::{
    Client, Error,
    v1::{CreateTenantRequest, Quotas, RegisterRuntimeRequest},
};

use crate::{Certificate, Host, Tenant};

/// Administration of the platform.
pub mod platform {
    use super::{
        Certificate, Client, CreateTenantRequest, Error, Host, Quotas, RegisterRuntimeRequest, Tenant,
    };

    /// Quotas that no test and no bench meets.
    #[must_use]
    pub fn generous() -> Quotas {
        Quotas { sessions: 200_000, calls_in_flight: 20_000, calls_per_second: 1_000_000, runtimes: 2_000 }
    }

    /// Creates a tenant.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn create_tenant(administrator: &Client, name: &str) -> anyhow::Result<Tenant> {
        let request = CreateTenantRequest {
            name: name.into(),
            display_name: format!("{name} Ltd"),
            quotas: Some(generous()),
            ..CreateTenantRequest::default()
        };
        let made =
            administrator.tenants().create_tenant(request).await.map_err(|s| Error::from_status(&s))?;
        Ok(Tenant::new(administrator.clone(), name.to_owned(), made.into_inner().tenant_id))
    }

    /// Registers a Runtime for tenants, with a fresh certificate, for any contract that they are offered.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn register(host: &Host, runtime_id: &str, tenants: &[&Tenant]) -> anyhow::Result<Certificate> {
        let certificate = host.issue(runtime_id).await?;
        let request = RegisterRuntimeRequest {
            runtime_id: runtime_id.into(),
            certificate_identity: certificate.identity.clone(),
            tenant_ids: tenants.iter().map(|tenant| tenant.id().to_owned()).collect(),
            contracts: vec!["*".into()],
            security_zones: Vec::new(),
        };
        let administrator = host.administrator()?;
        administrator.runtimes().register_runtime(request).await.map_err(|s| Error::from_status(&s))?;
        Ok(certificate)
    }
}
