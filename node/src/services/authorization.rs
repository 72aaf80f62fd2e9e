use aesp_call::{Granted, View};
use aesp_identity::Principal;
use aesp_policy::{
    Context as Circumstances, Decision, Parts, Request as Question, Resource, Role, Snapshot, StoredPolicy,
};
use aesp_proto::{
    Error, ErrorCode, Timestamp, TokenId,
    v1::{
        self, AssignRoleRequest, AssignRoleResponse, AuthorizeActionRequest, AuthorizeActionResponse,
        CheckPermissionRequest, CheckPermissionResponse, CreateRoleRequest, DeleteRoleRequest,
        DeleteRoleResponse, EvaluatePolicyRequest, GetUserPermissionsRequest, GetUserPermissionsResponse,
        ListRolesRequest, ListRolesResponse, RevokeRoleRequest, RevokeRoleResponse,
        enterprise_authorization_service_server,
    },
};
use tonic::{Request, Response, Status};

use super::{Context, enter};

/// Roles, and what they decide.
pub(crate) struct Authorization(pub(crate) Context);

impl Authorization {
    /// Decides for a principal as the Host would decide, by `policy`. Nothing is done under the decision.
    async fn decide(
        &self,
        policy: &Snapshot,
        view: &View,
        principal: &Principal,
        (action, resource): (&str, &str),
    ) -> Result<Decision, Error> {
        let tenant = principal.tenant;
        let tool = resource.strip_prefix("tool:").map(|named| named.split_once('@').unwrap_or((named, "")));
        let contract = tool
            .and_then(|(name, version)| view.catalog.find(name, (!version.is_empty()).then_some(version)));
        let version = contract.map(|compiled| compiled.contract().version().to_string()).unwrap_or_default();
        let resource = match (resource.split_once(':'), contract) {
            (Some(("tool", _)), Some(compiled)) => {
                let contract = compiled.contract();
                Resource::Tool {
                    tenant,
                    name: contract.name(),
                    version: &version,
                    effects: contract.effects().as_str(),
                    risk: contract.risk().as_str(),
                    classification: contract.classification().as_str(),
                    tags: contract.tags(),
                    required_roles: contract.required_roles(),
                    development: false,
                }
            }
            (Some(("tool", _)), None) => {
                return Err(Error::new(ErrorCode::ToolNotFound, "there is no such tool"));
            }
            (Some(("session", id)), _) => {
                let id = aesp_call::session_id(id)?;
                let info = self.0.sessions.find(tenant, id).await?.ok_or(aesp_session::Error::Invalid)?;
                Resource::Session { id, owner: info.principal, tenant }
            }
            (Some(("tenant", id)), _) => Resource::Tenant(super::parse(id)?),
            _ if resource.is_empty() => Resource::Tenant(tenant),
            _ => return Err(Error::invalid("resource must be tool:NAME, session:ID or tenant:ID")),
        };
        let question = Question {
            principal: principal.id,
            principal_kind: principal.kind.as_str_name(),
            tenant,
            on_behalf_of: None,
            action,
            resource,
            context: Circumstances::at(self.0.clock.now()),
        };
        Ok(aesp_policy::authorize(policy, &self.0.entropy, &question))
    }

    async fn asked(
        &self,
        granted: &Granted,
        asked: &AuthorizeActionRequest,
    ) -> Result<AuthorizeActionResponse, Error> {
        let (principal, view) = self.0.principal(granted, &asked.principal_id).await?;
        let decision = self.decide(&view.policy, &view, &principal, (&asked.action, &asked.resource)).await?;
        Ok(describe(decision))
    }
}

fn describe(decision: Decision) -> AuthorizeActionResponse {
    let basis = decision.basis().clone();
    let (authorized, reason) = match decision.into_permit() {
        Ok(_) => (true, String::new()),
        Err(denied) => (false, Error::from(denied).message().to_owned()),
    };
    AuthorizeActionResponse {
        authorized,
        decision_reason: reason,
        applied_policies: basis.policies.iter().map(ToString::to_string).collect(),
        decision_id: basis.decision.to_string(),
        revision: basis.revision.0,
        ..AuthorizeActionResponse::default()
    }
}

#[tonic::async_trait]
impl enterprise_authorization_service_server::EnterpriseAuthorizationService for Authorization {
    async fn authorize_action(
        &self,
        request: Request<AuthorizeActionRequest>,
    ) -> Result<Response<AuthorizeActionResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        Ok(Response::new(self.asked(&granted, &entry.message).await?))
    }

    async fn check_permission(
        &self,
        request: Request<CheckPermissionRequest>,
    ) -> Result<Response<CheckPermissionResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let asked = AuthorizeActionRequest {
            principal_id: entry.message.principal_id.clone(),
            action: entry.message.permission.clone(),
            resource: entry.message.resource.clone(),
            ..AuthorizeActionRequest::default()
        };
        let answer = self.asked(&granted, &asked).await?;
        Ok(Response::new(CheckPermissionResponse {
            granted: answer.authorized,
            reason: answer.decision_reason,
        }))
    }

    async fn get_effective_permissions(
        &self,
        request: Request<GetUserPermissionsRequest>,
    ) -> Result<Response<GetUserPermissionsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (principal, view) = self.0.principal(&granted, &entry.message.principal_id).await?;
        let permissions = view.policy.effective(principal.id, self.0.clock.now());
        Ok(Response::new(GetUserPermissionsResponse { permissions }))
    }

    async fn evaluate_policy(
        &self,
        request: Request<EvaluatePolicyRequest>,
    ) -> Result<Response<AuthorizeActionResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let asked = entry.message.request.clone().unwrap_or_default();
        let (principal, view) = self.0.principal(&granted, &asked.principal_id).await?;
        let id = TokenId::random(&self.0.entropy);
        let text = entry.message.policy_text.clone();
        let stored = StoredPolicy::new(id, "evaluated", text, principal.id, self.0.clock.now());
        let parts = Parts { policies: vec![stored.map_err(Error::from)?], ..Parts::default() };
        let policy = Snapshot::from_parts(principal.tenant, view.revision, parts).map_err(Error::from)?;
        let decision = self.decide(&policy, &view, &principal, (&asked.action, &asked.resource)).await?;
        Ok(Response::new(describe(decision)))
    }

    async fn create_role(&self, request: Request<CreateRoleRequest>) -> Result<Response<v1::Role>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let role: Role = entry.message.role.ok_or_else(|| Error::invalid("role is missing"))?.into();
        let wire = role.to_wire(tenant);
        self.0
            .change(&granted, format!("role:{}", role.name), move |tx| {
                let role = role.clone();
                Box::pin(async move {
                    aesp_policy::create_role(tx, tenant, &role).await?;
                    Ok(())
                })
            })
            .await?;
        Ok(Response::new(wire))
    }

    async fn delete_role(
        &self,
        request: Request<DeleteRoleRequest>,
    ) -> Result<Response<DeleteRoleResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, name, now) = (granted.tenant(), entry.message.name, self.0.clock.now());
        self.0
            .change(&granted, format!("role:{name}"), move |tx| {
                let name = name.clone();
                Box::pin(async move {
                    aesp_policy::delete_role(tx, tenant, &name, now).await?;
                    Ok(())
                })
            })
            .await?;
        Ok(Response::new(DeleteRoleResponse {}))
    }

    async fn list_roles(
        &self,
        request: Request<ListRolesRequest>,
    ) -> Result<Response<ListRolesResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        self.0.read(&granted, "roles".into(), |_| Box::pin(async { Ok(()) })).await?;
        let view = self.0.views.get(tenant).await.map_err(Error::from)?;
        let page = entry.message.page.unwrap_or_default();
        let mut roles: Vec<_> = view.policy.roles().iter().map(|role| role.to_wire(tenant)).collect();
        roles.sort_by(|a, b| a.name.cmp(&b.name));
        let mut rest = roles.into_iter().filter(|role| role.name > page.cursor);
        let roles: Vec<_> = rest.by_ref().take(super::limit(&page)).collect();
        let more = rest.next().is_some();
        let next_cursor = roles.last().filter(|_| more).map(|role| role.name.clone()).unwrap_or_default();
        Ok(Response::new(ListRolesResponse { roles, next_cursor }))
    }

    async fn assign_role(
        &self,
        request: Request<AssignRoleRequest>,
    ) -> Result<Response<AssignRoleResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let asked = entry.message;
        let ends = (asked.expires_at_ms > 0).then_some(Timestamp(asked.expires_at_ms));
        self.0
            .change(&granted, format!("principal:{} role:{}", asked.principal_id, asked.role), move |tx| {
                let asked = asked.clone();
                Box::pin(async move {
                    let id = aesp_identity::find(tx, tenant, &asked.principal_id).await?.id;
                    aesp_policy::assign_role(tx, tenant, id, &asked.role, ends).await?;
                    Ok(())
                })
            })
            .await?;
        Ok(Response::new(AssignRoleResponse {}))
    }

    async fn revoke_role(
        &self,
        request: Request<RevokeRoleRequest>,
    ) -> Result<Response<RevokeRoleResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let asked = entry.message;
        let revoked = self.0.change(
            &granted,
            format!("principal:{} role:{}", asked.principal_id, asked.role),
            move |tx| {
                let asked = asked.clone();
                Box::pin(async move {
                    let id = aesp_identity::find(tx, tenant, &asked.principal_id).await?.id;
                    Ok(aesp_policy::revoke_role(tx, tenant, id, &asked.role).await?)
                })
            },
        );
        if !revoked.await? {
            return Err(Error::new(ErrorCode::NotFound, "the principal does not have the role").into());
        }
        // Running calls hear of the new revision themselves and end where the right was lost.
        Ok(Response::new(RevokeRoleResponse { cancelled_calls: 0 }))
    }
}
