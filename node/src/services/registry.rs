use std::time::Duration;

use aesp_proto::{
    Error, TenantId,
    v1::{
        DrainRuntimeRequest, DrainRuntimeResponse, ListRuntimeRegistrationsRequest,
        ListRuntimeRegistrationsResponse, ListRuntimesRequest, ListRuntimesResponse, RegisterRuntimeRequest,
        RevokeRuntimeRequest, RevokeRuntimeResponse, RuntimeRegistration, runtime_registry_service_server,
    },
};
use aesp_runtime::Registration;
use tonic::{Request, Response, Status};

use super::{Context, enter};

/// How long a drained Runtime may finish its calls.
const DRAIN: Duration = Duration::from_secs(30);

/// Who may be a Runtime. Registrations are the platform's: a certificate may serve several tenants.
pub(crate) struct Registry(pub(crate) Context);

#[tonic::async_trait]
impl runtime_registry_service_server::RuntimeRegistryService for Registry {
    async fn register_runtime(
        &self,
        request: Request<RegisterRuntimeRequest>,
    ) -> Result<Response<RuntimeRegistration>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let asked = entry.message;
        let mut tenants = Vec::with_capacity(asked.tenant_ids.len());
        for named in &asked.tenant_ids {
            let tenant = self.0.tenant(&entry.caller, named).await;
            let tenant = self.0.denied(&granted, "runtime:tenants", tenant).await?;
            // The right is asked for each tenant that the Runtime would serve.
            self.0.access.permit_tenant(&entry.caller, &entry.action, tenant).await?;
            self.0.checked(&granted, "runtime:tenants", self.0.views.get(tenant).await).await?;
            tenants.push(tenant);
        }
        let registration = Registration {
            runtime_id: asked.runtime_id,
            certificate_identity: asked.certificate_identity,
            tenants,
            contracts: asked.contracts,
            zones: asked.security_zones,
            created_at: self.0.clock.now(),
            revoked: false,
        };
        let stored = self.0.change(&granted, format!("runtime:{}", registration.runtime_id), move |tx| {
            let registration = registration.clone();
            Box::pin(async move { Ok(aesp_runtime::register(tx, registration).await?) })
        });
        Ok(Response::new((&stored.await?).into()))
    }

    async fn list_runtime_registrations(
        &self,
        request: Request<ListRuntimeRegistrationsRequest>,
    ) -> Result<Response<ListRuntimeRegistrationsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let page = entry.message.page.unwrap_or_default();
        let read = self.0.read(&granted, "runtime registrations".into(), move |tx| {
            let page = page.clone();
            Box::pin(async move { Ok(aesp_runtime::list(tx, &page.cursor, super::limit(&page)).await?) })
        });
        let (listed, next_cursor) = read.await?;
        let registrations = listed.iter().map(Into::into).collect();
        Ok(Response::new(ListRuntimeRegistrationsResponse { registrations, next_cursor }))
    }

    async fn revoke_runtime(
        &self,
        request: Request<RevokeRuntimeRequest>,
    ) -> Result<Response<RevokeRuntimeResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let runtime = entry.message.runtime_id;
        let named = runtime.clone();
        // Counted before, because a connection also ends by itself as soon as the node hears of the change.
        let connected = self.0.runtimes.list(None).iter().filter(|one| one.runtime_id == runtime).count();
        self.0
            .commit(&granted, format!("runtime:{runtime}"), move |tx| {
                let named = named.clone();
                Box::pin(async move {
                    aesp_runtime::revoke(tx, &named).await?;
                    Ok(())
                })
            })
            .await?;
        let mut closed = self.0.runtimes.close_registration_everywhere(&runtime).await;
        let applied = self.0.apply(TenantId::PLATFORM).await;
        // What connected again before the registration was gone from the view.
        closed += self.0.runtimes.close_registration_everywhere(&runtime).await;
        applied?;
        Ok(Response::new(RevokeRuntimeResponse {
            closed_connections: u32::try_from(closed.max(connected)).unwrap_or(u32::MAX),
        }))
    }

    async fn list_runtimes(
        &self,
        request: Request<ListRuntimesRequest>,
    ) -> Result<Response<ListRuntimesResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = Some(granted.tenant()).filter(|tenant| *tenant != TenantId::PLATFORM);
        let runtimes = self.0.runtimes.list_everywhere(tenant).await;
        self.0.read(&granted, "runtimes".into(), |_| Box::pin(async { Ok(()) })).await?;
        Ok(Response::new(ListRuntimesResponse { runtimes }))
    }

    async fn drain_runtime(
        &self,
        request: Request<DrainRuntimeRequest>,
    ) -> Result<Response<DrainRuntimeResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let asked = entry.message;
        let events = granted.changed(format!("runtime:{}", asked.runtime_id));
        self.0.recorder.append(events).await.map_err(Error::from)?;
        let drained = self.0.runtimes.drain_everywhere(&asked.runtime_id, &asked.reason, DRAIN).await;
        Ok(Response::new(DrainRuntimeResponse { connections: u32::try_from(drained).unwrap_or(u32::MAX) }))
    }
}
