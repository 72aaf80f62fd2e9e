use aesp_sdk::{
    Client, Credentials, Error,
    v1::{
        ActivateContractRequest, CreateContractRequest, CreateRoleRequest, CreateServiceAccountRequest,
        ExportAuditLogsRequest, Grant, Principal, QueryEventsRequest, RevokeRoleRequest, Role,
    },
};

use crate::{Contract, Host};

/// A tenant, as the platform's administrator sees it.
#[derive(Clone)]
pub struct Tenant {
    administrator: Client,
    name: String,
    id: String,
}

/// A service account with the key that was shown once.
#[derive(Clone)]
pub struct Account {
    /// The account.
    pub principal: Principal,
    /// Its API key.
    pub api_key: String,
}

impl Account {
    /// Returns a client that is this account.
    ///
    /// # Errors
    /// When the key can't be used.
    pub fn client(&self, host: &Host) -> anyhow::Result<Client> {
        host.client(Credentials::ApiKey(self.api_key.as_str().into()))
    }
}

fn refusal(status: tonic::Status) -> anyhow::Error {
    Error::from_status(&status).into()
}

impl Tenant {
    pub(crate) fn new(administrator: Client, name: String, id: String) -> Self {
        Self { administrator, name, id }
    }

    /// Returns the same tenant, administered through another client.
    #[must_use]
    pub fn through(&self, administrator: Client) -> Self {
        Self { administrator, ..self.clone() }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Creates and activates a contract of its own.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn offer(&self, contract: Contract) -> anyhow::Result<()> {
        let (name, version) = (contract.0.name.clone(), contract.0.version.clone());
        let mut catalog = self.administrator.catalog();
        let request = CreateContractRequest { tenant_id: self.id.clone(), draft: Some(contract.0) };
        let digest = catalog.create_contract(request).await.map_err(refusal)?.into_inner().digest;
        let request =
            ActivateContractRequest { tenant_id: self.id.clone(), name, version, expected_digest: digest };
        catalog.activate_contract(request).await.map_err(refusal)?;
        Ok(())
    }

    /// Creates a role that may call these tools (`tool:NAME`, `tag:TAG` or `*`), and look after its own calls.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn role(&self, name: &str, resources: &[&str]) -> anyhow::Result<()> {
        let grant = Grant {
            actions: vec!["tool.invoke".into()],
            resources: resources.iter().map(|&resource| resource.to_owned()).collect(),
        };
        let role = Role {
            name: name.into(),
            inherits: vec!["agent".into()],
            grants: vec![grant],
            ..Role::default()
        };
        let request = CreateRoleRequest { tenant_id: self.id.clone(), role: Some(role) };
        self.administrator.authorization().create_role(request).await.map_err(refusal)?;
        Ok(())
    }

    /// Creates a service account with roles.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn account(&self, name: &str, roles: &[&str]) -> anyhow::Result<Account> {
        let request = CreateServiceAccountRequest {
            tenant_id: self.id.clone(),
            name: name.into(),
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
        };
        let made = self.administrator.identity().create_service_account(request).await.map_err(refusal)?;
        let made = made.into_inner();
        Ok(Account { principal: made.principal.unwrap_or_default(), api_key: made.api_key })
    }

    /// Takes a role from an account; returns how many of its calls that cancelled.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn revoke_role(&self, principal_id: &str, role: &str) -> anyhow::Result<u32> {
        let request = RevokeRoleRequest {
            tenant_id: self.id.clone(),
            principal_id: principal_id.into(),
            role: role.into(),
        };
        let done = self.administrator.authorization().revoke_role(request).await.map_err(refusal)?;
        Ok(done.into_inner().cancelled_calls)
    }

    /// Returns the newest thousand events of its log that the query asks for.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn events(&self, query: QueryEventsRequest) -> anyhow::Result<Vec<aesp_sdk::v1::AuditEvent>> {
        let page = Some(aesp_sdk::v1::Page { limit: 1000, ..Default::default() });
        let request = QueryEventsRequest { tenant_id: self.id.clone(), page, newest_first: true, ..query };
        let found = self.administrator.audit().query_events(request).await.map_err(refusal)?;
        Ok(found.into_inner().events)
    }

    /// Returns its whole log, as JSON Lines with proofs.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn export(&self) -> anyhow::Result<Vec<u8>> {
        let request = ExportAuditLogsRequest { tenant_id: self.id.clone(), ..Default::default() };
        let mut parts =
            self.administrator.audit().export_audit_logs(request).await.map_err(refusal)?.into_inner();
        let mut all = Vec::new();
        while let Some(part) = parts.message().await.map_err(refusal)? {
            all.extend_from_slice(&part.json_lines);
        }
        Ok(all)
    }
}
