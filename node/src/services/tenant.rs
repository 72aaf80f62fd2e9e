use aesp_proto::{
    Error, TenantId,
    v1::{
        CreateTenantRequest, DeleteTenantRequest, DeleteTenantResponse, GetTenantRequest,
        GetTenantUsageRequest, ListTenantsRequest, ListTenantsResponse, ResumeTenantRequest,
        SuspendTenantRequest, Tenant, TenantUsage, UpdateTenantQuotasRequest, tenant_service_server,
    },
};
use aesp_storage::Transaction;
use aesp_tenant::{NewTenant, TenantRow};
use tonic::{Request, Response, Status};

use super::{Context, enter};

/// The tenants' life cycle, quotas and usage.
pub(crate) struct Tenants(pub(crate) Context);

async fn wire(tx: &Transaction, row: TenantRow) -> Result<Tenant, Error> {
    Ok(row.to_wire(tx.revision(row.id).await?))
}

#[tonic::async_trait]
impl tenant_service_server::TenantService for Tenants {
    async fn create_tenant(&self, request: Request<CreateTenantRequest>) -> Result<Response<Tenant>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let asked = entry.message;
        let new = NewTenant {
            id: TenantId::random(&self.0.entropy),
            name: asked.name,
            display_name: asked.display_name,
            quotas: asked.quotas.unwrap_or_default().into(),
            metadata: asked.metadata.into_iter().collect(),
        };
        let now = self.0.clock.now();
        let created = self.0.change(&granted, format!("tenant:{}", new.id), move |tx| {
            let new = new.clone();
            Box::pin(async move { wire(tx, aesp_tenant::create(tx, new, now).await?).await })
        });
        Ok(Response::new(created.await?))
    }

    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<Tenant>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let read = self.0.read(&granted, format!("tenant:{tenant}"), move |tx| {
            Box::pin(async move { wire(tx, aesp_tenant::get(tx, tenant).await?).await })
        });
        Ok(Response::new(read.await?))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let page = entry.message.page.unwrap_or_default();
        let limit = super::limit(&page);
        let after = super::cursor::<TenantId>(&page)?;
        let read = self.0.read(&granted, "tenants".into(), move |tx| {
            Box::pin(async move {
                let mut tenants = Vec::new();
                for row in aesp_tenant::list(tx, after, limit).await? {
                    tenants.push(wire(tx, row).await?);
                }
                Ok(tenants)
            })
        });
        let tenants = read.await?;
        let full = tenants.len() == limit;
        let next_cursor =
            tenants.last().filter(|_| full).map(|last| last.tenant_id.clone()).unwrap_or_default();
        Ok(Response::new(ListTenantsResponse { tenants, next_cursor }))
    }

    async fn update_tenant_quotas(
        &self,
        request: Request<UpdateTenantQuotasRequest>,
    ) -> Result<Response<Tenant>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let quotas = entry.message.quotas.unwrap_or_default().into();
        let changed = self.0.change(&granted, format!("tenant:{tenant}"), move |tx| {
            Box::pin(async move { wire(tx, aesp_tenant::update_quotas(tx, tenant, quotas).await?).await })
        });
        Ok(Response::new(changed.await?))
    }

    async fn suspend_tenant(
        &self,
        request: Request<SuspendTenantRequest>,
    ) -> Result<Response<Tenant>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let reason = entry.message.reason;
        let changed = self.0.commit(&granted, format!("tenant:{tenant}"), move |tx| {
            let reason = reason.clone();
            Box::pin(async move { wire(tx, aesp_tenant::suspend(tx, tenant, &reason).await?).await })
        });
        let row = changed.await?;
        let applied = self.0.apply(tenant).await;
        self.0.sessions.cancel_all(aesp_session::Scope::Tenant(tenant));
        applied?;
        Ok(Response::new(row))
    }

    async fn resume_tenant(&self, request: Request<ResumeTenantRequest>) -> Result<Response<Tenant>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let changed = self.0.change(&granted, format!("tenant:{tenant}"), move |tx| {
            Box::pin(async move { wire(tx, aesp_tenant::resume(tx, tenant).await?).await })
        });
        Ok(Response::new(changed.await?))
    }

    async fn delete_tenant(
        &self,
        request: Request<DeleteTenantRequest>,
    ) -> Result<Response<DeleteTenantResponse>, Status> {
        let entry = enter(request)?;
        // The record stands in the platform's log: the tenant's own can't be written without its keys.
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let tenant = self.0.tenant(&entry.caller, &entry.message.tenant_id).await;
        let tenant = self.0.denied(&granted, "tenant:unknown", tenant).await?;
        let resource = format!("tenant:{tenant}");
        let confirmed = entry.message.confirm_name;
        let held = self.0.store.run(move |tx| Box::pin(not_held(tx, tenant))).await;
        self.0.checked(&granted, &resource, held).await?;
        // While its keys are there its sessions can still be ended, each with its record.
        let view = self.0.checked(&granted, &resource, self.0.views.get(tenant).await).await?;
        if view.tenant.row().name == confirmed {
            let (scope, who) = (aesp_session::Scope::Tenant(tenant), super::origin(&granted));
            let ended = self.0.end_sessions(scope, "the tenant is deleted", who).await;
            self.0.checked(&granted, &resource, ended).await?;
        }
        self.0
            .commit(&granted, resource, move |tx| {
                let confirmed = confirmed.clone();
                Box::pin(async move {
                    if aesp_tenant::get(tx, tenant).await?.name != confirmed {
                        return Err(Error::invalid("confirm_name is not the tenant's name")
                            .remedy("repeat the name of the tenant that is to be deleted for ever"));
                    }
                    not_held(tx, tenant).await?;
                    aesp_tenant::delete(tx, tenant).await?;
                    Ok(())
                })
            })
            .await?;
        let applied = self.0.apply_all([TenantId::PLATFORM, tenant]).await;
        self.0.sessions.cancel_all(aesp_session::Scope::Tenant(tenant));
        applied?;
        Ok(Response::new(DeleteTenantResponse { destroyed_keys: 1 }))
    }

    async fn get_tenant_usage(
        &self,
        request: Request<GetTenantUsageRequest>,
    ) -> Result<Response<TenantUsage>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let mut usage = TenantUsage::from(self.0.tenants.usage(tenant).await.map_err(Error::from)?);
        let row = self.0.read(&granted, format!("tenant:{tenant}"), move |tx| {
            Box::pin(async move { Ok(aesp_tenant::get(tx, tenant).await?) })
        });
        usage.quotas = Some(row.await?.quotas.into());
        let nodes = self.0.cluster.nodes();
        let nodes = nodes.borrow();
        for node in &mut usage.nodes {
            let known = nodes.iter().find(|known| known.incarnation.0 == node.node);
            node.name = known.map(|known| known.name.clone()).unwrap_or_default();
        }
        Ok(Response::new(usage))
    }
}

/// Refuses what would destroy the keys of a tenant that a legal hold keeps.
async fn not_held(tx: &Transaction, tenant: TenantId) -> Result<(), Error> {
    let holds = match aesp_retention::holds(tx, tenant).await {
        // Deleted before: there is nothing left to keep.
        Err(aesp_retention::Error::Store(aesp_storage::Error::KeyDestroyed { .. })) => return Ok(()),
        holds => holds?,
    };
    match aesp_retention::hold_on_all(&holds) {
        Some(hold) => Err(aesp_retention::Error::Held(hold).into()),
        None => Ok(()),
    }
}
