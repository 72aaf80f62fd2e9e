use std::collections::HashMap;

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
        asked: &AuthorizeActionRequest,
    ) -> Result<Decision, Error> {
        let tenant = principal.tenant;
        let (action, resource) = (asked.action.as_str(), asked.resource.as_str());
        let tool = resource.strip_prefix("tool:").map(|named| named.split_once('@').unwrap_or((named, "")));
        let contract = tool
            .and_then(|(name, version)| view.catalog.find(name, (!version.is_empty()).then_some(version)));
        let arguments = match (contract, asked.args_json.is_empty()) {
            (_, true) => None,
            (Some(compiled), false) => {
                let arguments = compiled.check_arguments(&asked.args_json)?;
                Some(compiled.policy_arguments(&arguments)?)
            }
            (None, false) => return Err(Error::invalid("args_json goes with a tool only")),
        };
        let circumstances = circumstances(&asked.context, self.0.clock.now())?;
        let resource = match (resource.split_once(':'), contract) {
            (Some(("tool", _)), Some(compiled)) => compiled.resource(tenant),
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
            context: Circumstances { arguments: arguments.as_ref(), ..circumstances },
        };
        Ok(aesp_policy::authorize(policy, &self.0.entropy, &question))
    }

    async fn asked(
        &self,
        granted: &Granted,
        asked: &AuthorizeActionRequest,
    ) -> Result<AuthorizeActionResponse, Error> {
        let (principal, view) = self.0.principal(granted, &asked.principal_id).await?;
        let decision = self.decide(&view.policy, &view, &principal, asked).await?;
        self.0.access.still(granted).await?;
        Ok(describe(decision))
    }
}

/// Reads the circumstances that a question is asked under: those that policies know, by the names of the published schema.
fn circumstances(context: &HashMap<String, String>, now: Timestamp) -> Result<Circumstances<'static>, Error> {
    let mut known = Circumstances::at(now);
    let malformed = |name: &str, form: &str| Error::invalid(format!("context {name} must be {form}"));
    for (name, value) in context {
        match name.as_str() {
            "now" => {
                let millis = value.parse().map_err(|_| malformed(name, "milliseconds since 1970"))?;
                known.now = Timestamp(millis);
            }
            "sourceIp" => {
                known.source_ip = Some(value.parse().map_err(|_| malformed(name, "an IP address"))?);
            }
            "session" => known.session = Some(value.parse().map_err(|_| malformed(name, "a session id"))?),
            "depth" => known.depth = value.parse().map_err(|_| malformed(name, "a number from 0"))?,
            // A circumstance that nobody looks at would make the answer a wrong one.
            _ => {
                let name: String = name.chars().take(64).collect();
                return Err(Error::invalid(format!("policies know no context {name:?}"))
                    .remedy("give now, sourceIp, session or depth"));
            }
        }
    }
    Ok(known)
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
        Ok(Response::new(self.0.permissions(&enter(request)?).await?))
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
        let decision = self.decide(&policy, &view, &principal, &asked).await?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(describe(decision)))
    }

    async fn create_role(&self, request: Request<CreateRoleRequest>) -> Result<Response<v1::Role>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let role = entry.message.role.ok_or_else(|| Error::invalid("role is missing"));
        let role: Role = self.0.checked(&granted, "role", role).await?.into();
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
        let elsewhere = self.0.watch_calls(tenant, &asked.principal_id).await;
        let revoked = self.0.commit(
            &granted,
            format!("principal:{} role:{}", asked.principal_id, asked.role),
            move |tx| {
                let asked = asked.clone();
                Box::pin(async move {
                    let id = aesp_identity::find(tx, tenant, &asked.principal_id).await?.id;
                    if !aesp_policy::revoke_role(tx, tenant, id, &asked.role).await? {
                        return Err(Error::new(ErrorCode::NotFound, "the principal does not have the role"));
                    }
                    Ok(id)
                })
            },
        );
        // They hear of the new revision themselves, some before this does, and end where the right was lost.
        let running = self.0.calls.running(tenant);
        let principal = revoked.await?;
        self.0.apply(tenant).await?;
        let lost = self.0.calls.lost(running, principal).await + elsewhere.lost().await;
        Ok(Response::new(RevokeRoleResponse { cancelled_calls: u32::try_from(lost).unwrap_or(u32::MAX) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Result<Circumstances<'static>, Error> {
        circumstances(&HashMap::from([(name.to_owned(), value.to_owned())]), Timestamp(7))
    }

    #[test]
    fn circumstances_are_what_policies_know() {
        assert_eq!(of("depth", "2").unwrap().depth, 2);
        assert_eq!(of("depth", "2").unwrap().now, Timestamp(7));
        assert_eq!(of("now", "5").unwrap().now, Timestamp(5));
        assert_eq!(of("sourceIp", "192.0.2.1").unwrap().source_ip.unwrap().to_string(), "192.0.2.1");
        for (name, value) in
            [("source_ip", "192.0.2.1"), ("sourceIp", "x"), ("depth", "-1"), ("session", "s")]
        {
            assert!(of(name, value).is_err(), "{name}={value}");
        }
    }
}
