use aesp_policy::{PolicyDraft, StoredPolicy};
use aesp_proto::{
    TenantId, TokenId,
    v1::{
        CreatePolicyRequest, DeletePolicyRequest, DeletePolicyResponse, GetPolicyRequest,
        ListPoliciesRequest, ListPoliciesResponse, Policy, ValidatePolicyRequest, ValidatePolicyResponse,
        enterprise_policy_service_server,
    },
};
use tonic::{Request, Response, Status};

use super::{Context, enter};

/// The Cedar policies of a tenant.
pub(crate) struct Policies(pub(crate) Context);

fn wire(stored: StoredPolicy, tenant: TenantId) -> Policy {
    Policy {
        policy_id: stored.id.to_string(),
        name: stored.name,
        description: stored.description,
        version: 1,
        text: stored.text,
        enabled: true,
        created_at: stored.created_at.0,
        updated_at: stored.created_at.0,
        created_by: stored.created_by.to_string(),
        tenant_id: tenant.to_string(),
    }
}

#[tonic::async_trait]
impl enterprise_policy_service_server::EnterprisePolicyService for Policies {
    async fn create_policy(&self, request: Request<CreatePolicyRequest>) -> Result<Response<Policy>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, author, now) = (granted.tenant(), entry.caller.principal_id(), self.0.clock.now());
        let CreatePolicyRequest { name, description, text, .. } = entry.message;
        let draft = PolicyDraft { id: TokenId::random(&self.0.entropy), name, description, text };
        let stored = self.0.change(&granted, format!("policy:{}", draft.id), move |tx| {
            let draft = draft.clone();
            Box::pin(async move { Ok(aesp_policy::create_policy(tx, tenant, &draft, author, now).await?) })
        });
        Ok(Response::new(wire(stored.await?, tenant)))
    }

    async fn delete_policy(
        &self,
        request: Request<DeletePolicyRequest>,
    ) -> Result<Response<DeletePolicyResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let id = self.0.checked(&granted, "policy", super::parse(&entry.message.policy_id)).await?;
        let deleted = self.0.change(&granted, format!("policy:{id}"), move |tx| {
            Box::pin(async move { Ok(aesp_policy::delete_policy(tx, tenant, id).await?) })
        });
        deleted.await?;
        Ok(Response::new(DeletePolicyResponse {}))
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<Policy>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, id) = (granted.tenant(), super::parse(&entry.message.policy_id)?);
        let read = self.0.read(&granted, format!("policy:{id}"), move |tx| {
            Box::pin(async move { Ok(aesp_policy::get_policy(tx, tenant, id).await?) })
        });
        Ok(Response::new(wire(read.await?, tenant)))
    }

    async fn list_policies(
        &self,
        request: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let page = entry.message.page.unwrap_or_default();
        let (after, limit) = (super::cursor::<TokenId>(&page)?, super::limit(&page));
        let read = self.0.read(&granted, "policies".into(), move |tx| {
            Box::pin(async move { Ok(aesp_policy::list_policies(tx, tenant, after, limit).await?) })
        });
        let listed = read.await?;
        let full = listed.len() == limit;
        let next_cursor = listed.last().filter(|_| full).map(|last| last.id.to_string()).unwrap_or_default();
        let policies = listed.into_iter().map(|stored| wire(stored, tenant)).collect();
        Ok(Response::new(ListPoliciesResponse { policies, next_cursor }))
    }

    async fn validate_policy(
        &self,
        request: Request<ValidatePolicyRequest>,
    ) -> Result<Response<ValidatePolicyResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        self.0.read(&granted, "policy text".into(), |_| Box::pin(async { Ok(()) })).await?;
        let errors = aesp_policy::validate_policy(&entry.message.text);
        Ok(Response::new(ValidatePolicyResponse { valid: errors.is_empty(), errors }))
    }
}
