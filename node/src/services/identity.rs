use aesp_audit::{Filter, Query};
use aesp_identity::{CertificateIdentity, Principal, PrincipalName};
use aesp_proto::{
    Error, ErrorCode, TenantId,
    v1::{
        self, BindCertificateRequest, CreateServiceAccountRequest, CreateServiceAccountResponse, EventType,
        GetPrincipalAuditTrailRequest, GetPrincipalDetailsRequest, ListPrincipalsRequest,
        ListPrincipalsResponse, ListServiceAccountsRequest, Outcome, PrincipalType, QueryEventsResponse,
        RevokeServiceAccountRequest, RotateApiKeyRequest, UpdatePrincipalRolesRequest,
        enterprise_identity_service_server,
    },
};
use aesp_storage::Transaction;
use tonic::{Request, Response, Status};

use super::{Context, enter};

/// Principals and what they prove themselves with.
pub(crate) struct Identity(pub(crate) Context);

/// Shows a principal with the roles that it was given.
async fn wire(tx: &Transaction, tenant: TenantId, principal: &Principal) -> Result<v1::Principal, Error> {
    let assigned = aesp_policy::list_assignments(tx, tenant, principal.id).await?;
    let roles = assigned.into_iter().map(|assignment| assignment.role).collect();
    Ok(v1::Principal { roles, ..principal.into() })
}

impl Identity {
    async fn list(
        &self,
        granted: &aesp_call::Granted,
        kind: Option<PrincipalType>,
        page: v1::Page,
    ) -> Result<ListPrincipalsResponse, Error> {
        let tenant = granted.tenant();
        let read = self.0.read(granted, "principals".into(), move |tx| {
            let page = page.clone();
            Box::pin(async move {
                let listed = aesp_identity::list(tx, tenant, kind, &page.cursor, super::limit(&page)).await?;
                let mut principals = Vec::with_capacity(listed.principals.len());
                for principal in &listed.principals {
                    principals.push(wire(tx, tenant, principal).await?);
                }
                Ok(ListPrincipalsResponse { principals, next_cursor: listed.next_cursor })
            })
        });
        read.await
    }
}

#[tonic::async_trait]
impl enterprise_identity_service_server::EnterpriseIdentityService for Identity {
    async fn create_service_account(
        &self,
        request: Request<CreateServiceAccountRequest>,
    ) -> Result<Response<CreateServiceAccountResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let name: PrincipalName =
            self.0.checked(&granted, "principal", entry.message.name.parse::<PrincipalName>()).await?;
        let roles = entry.message.roles;
        if !roles.is_empty() {
            // Giving roles is a right of its own.
            self.0.access.permit_tenant(&entry.caller, "role.assign", tenant).await?;
        }
        let (entropy, now) = (self.0.entropy.clone(), self.0.clock.now());
        let created = self.0.change(&granted, format!("principal:{name}"), move |tx| {
            let (name, roles, entropy) = (name.clone(), roles.clone(), entropy.clone());
            Box::pin(async move {
                let (principal, key) =
                    aesp_identity::create_service_account(tx, tenant, &name, &entropy, now).await?;
                if !roles.is_empty() {
                    aesp_policy::set_roles(tx, tenant, principal.id, &roles).await?;
                }
                Ok((wire(tx, tenant, &principal).await?, key))
            })
        });
        let (principal, key) = created.await?;
        let api_key = key.reveal().to_string();
        Ok(Response::new(CreateServiceAccountResponse { principal: Some(principal), api_key }))
    }

    async fn list_service_accounts(
        &self,
        request: Request<ListServiceAccountsRequest>,
    ) -> Result<Response<ListPrincipalsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let page = entry.message.page.unwrap_or_default();
        Ok(Response::new(self.list(&granted, Some(PrincipalType::ServiceAccount), page).await?))
    }

    async fn revoke_service_account(
        &self,
        request: Request<RevokeServiceAccountRequest>,
    ) -> Result<Response<v1::Principal>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let named = entry.message.principal_id;
        let revoked = self.0.commit(&granted, format!("principal:{named}"), move |tx| {
            let named = named.clone();
            Box::pin(async move {
                let id = aesp_identity::find(tx, tenant, &named).await?.id;
                Ok(aesp_identity::revoke_principal(tx, tenant, id).await?)
            })
        });
        let principal = revoked.await?;
        let applied = self.0.apply(tenant).await;
        let scope = aesp_session::Scope::Principal(tenant, principal.id);
        let ended = self.0.end_sessions(scope, "the account was revoked", super::origin(&granted)).await;
        applied.and(ended)?;
        Ok(Response::new((&principal).into()))
    }

    async fn rotate_api_key(
        &self,
        request: Request<RotateApiKeyRequest>,
    ) -> Result<Response<CreateServiceAccountResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, named) = (granted.tenant(), entry.message.principal_id);
        let (entropy, now) = (self.0.entropy.clone(), self.0.clock.now());
        let rotated = self.0.change(&granted, format!("principal:{named}"), move |tx| {
            let (named, entropy) = (named.clone(), entropy.clone());
            Box::pin(async move {
                let id = aesp_identity::find(tx, tenant, &named).await?.id;
                let (principal, key) = aesp_identity::rotate_api_key(tx, tenant, id, &entropy, now).await?;
                Ok((wire(tx, tenant, &principal).await?, key))
            })
        });
        let (principal, key) = rotated.await?;
        let api_key = key.reveal().to_string();
        Ok(Response::new(CreateServiceAccountResponse { principal: Some(principal), api_key }))
    }

    async fn bind_certificate(
        &self,
        request: Request<BindCertificateRequest>,
    ) -> Result<Response<v1::Principal>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        if entry.caller.tenant() != TenantId::PLATFORM {
            // Whoever binds an identity decides whom its holder acts as, and identities belong to no tenant.
            let resource = format!("principal:{}", entry.message.principal_id);
            let event = granted.event(EventType::Authorization, Outcome::Denied, resource);
            self.0.recorder.append(vec![event]).await.map_err(Error::from)?;
            let error =
                Error::new(ErrorCode::AuthorizationDenied, "only platform administrators bind certificates");
            return Err(error.remedy("ask the operators of the platform").into());
        }
        let tenant = granted.tenant();
        let asked = entry.message;
        let named = format!("principal:{}", asked.principal_id);
        let identity = asked.certificate_identity.parse::<CertificateIdentity>();
        let identity = self.0.checked(&granted, &named, identity).await?;
        let bound = self.0.change(&granted, named, move |tx| {
            let (named, identity) = (asked.principal_id.clone(), identity.clone());
            Box::pin(async move {
                let id = aesp_identity::find(tx, tenant, &named).await?.id;
                let principal = aesp_identity::bind_certificate(tx, tenant, id, &identity).await?;
                wire(tx, tenant, &principal).await
            })
        });
        Ok(Response::new(bound.await?))
    }

    async fn list_principals(
        &self,
        request: Request<ListPrincipalsRequest>,
    ) -> Result<Response<ListPrincipalsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let kind = Some(entry.message.r#type()).filter(|kind| *kind != PrincipalType::Unspecified);
        let page = entry.message.page.unwrap_or_default();
        Ok(Response::new(self.list(&granted, kind, page).await?))
    }

    async fn get_principal_details(
        &self,
        request: Request<GetPrincipalDetailsRequest>,
    ) -> Result<Response<v1::Principal>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, named) = (granted.tenant(), entry.message.principal_id);
        let read = self.0.read(&granted, format!("principal:{named}"), move |tx| {
            let named = named.clone();
            Box::pin(async move {
                let principal = aesp_identity::find(tx, tenant, &named).await?;
                wire(tx, tenant, &principal).await
            })
        });
        Ok(Response::new(read.await?))
    }

    async fn update_principal_roles(
        &self,
        request: Request<UpdatePrincipalRolesRequest>,
    ) -> Result<Response<v1::Principal>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let asked = entry.message;
        let changed = self.0.change(&granted, format!("principal:{}", asked.principal_id), move |tx| {
            let asked = asked.clone();
            Box::pin(async move {
                let principal = aesp_identity::find(tx, tenant, &asked.principal_id).await?;
                aesp_policy::set_roles(tx, tenant, principal.id, &asked.roles).await?;
                wire(tx, tenant, &principal).await
            })
        });
        Ok(Response::new(changed.await?))
    }

    async fn get_principal_audit_trail(
        &self,
        request: Request<GetPrincipalAuditTrailRequest>,
    ) -> Result<Response<QueryEventsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (principal, _) = self.0.principal(&granted, &entry.message.principal_id).await?;
        let page = entry.message.page.unwrap_or_default();
        let query = Query {
            filter: Filter { principals: vec![principal.id], ..Filter::default() },
            newest_first: true,
            limit: super::limit(&page),
            cursor: page.cursor,
            ..Query::new(granted.tenant())
        };
        let found = self.0.index.search(&query).await.map_err(Error::from)?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(QueryEventsResponse {
            events: found.page.events,
            next_cursor: found.page.next_cursor,
            index: None,
        }))
    }
}
