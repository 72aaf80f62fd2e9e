use std::collections::BTreeSet;

use aesp_call::{Granted, tenant_access_denied};
use aesp_catalog::{Contract, Import, Origin};
use aesp_proto::{
    Error, TenantId,
    v1::{
        ActivateContractRequest, ContractDraft, CreateContractRequest, EnterpriseToolContract, EventType,
        GetContractRequest, ImportAdmRequest, ImportMcpRequest, ImportRefusal, ImportResponse,
        ListContractsRequest, ListContractsResponse, RetireContractRequest, catalog_service_server,
    },
};
use tonic::{Request, Response, Status};

use super::{Context, enter};

/// Tool contracts: drafts, activation, retirement.
pub(crate) struct Catalog(pub(crate) Context);

impl Catalog {
    /// Resolves the tenants that a contract is offered to. Only the platform offers to others than itself; who tries is refused
    /// on record.
    async fn offered(&self, granted: &Granted, named: &[String]) -> Result<BTreeSet<TenantId>, Error> {
        let owner = granted.tenant();
        let mut offered = BTreeSet::new();
        for name in named {
            let tenant = match self.0.tenant(granted.caller(), name).await {
                Ok(tenant) if tenant != owner && owner != TenantId::PLATFORM => Err(tenant_access_denied()),
                resolved => resolved,
            };
            offered.insert(self.0.denied(granted, "contract:offered_to", tenant).await?);
        }
        if offered.is_empty() {
            offered.insert(owner);
        }
        Ok(offered)
    }

    async fn import(
        &self,
        granted: Granted,
        imported: Import,
        offered_to: &[String],
        origin: Origin,
    ) -> Result<ImportResponse, Error> {
        let owner = granted.tenant();
        let offered = self.offered(&granted, offered_to).await?;
        let mut answer = ImportResponse { drafts: Vec::new(), refused: imported.refused };
        for draft in imported.drafts {
            let resource = format!("contract:{}@{}", draft.name, draft.version);
            let contract = match Contract::from_draft(&draft, offered.clone()) {
                Ok(contract) => contract,
                Err(error) => {
                    let reason = error.to_string();
                    answer.refused.push(ImportRefusal { name: draft.name, reason });
                    let kind = EventType::ConfigurationChange;
                    let events = granted.failed(kind, resource, &error.into());
                    self.0.recorder.append(events).await.map_err(Error::from)?;
                    continue;
                }
            };
            let stored = self.0.change(&granted, resource, move |tx| {
                let contract = contract.clone();
                Box::pin(async move { Ok(aesp_catalog::create_draft(tx, owner, &contract, origin).await?) })
            });
            match stored.await {
                Ok(stored) => answer.drafts.push(stored.to_wire(owner)),
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    answer
                        .refused
                        .push(ImportRefusal { name: draft.name, reason: error.message().to_owned() });
                }
            }
        }
        Ok(answer)
    }
}

#[tonic::async_trait]
impl catalog_service_server::CatalogService for Catalog {
    async fn create_contract(
        &self,
        request: Request<CreateContractRequest>,
    ) -> Result<Response<EnterpriseToolContract>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let owner = granted.tenant();
        let draft = entry.message.draft.ok_or_else(|| Error::invalid("draft is missing"));
        let draft: ContractDraft = self.0.checked(&granted, "contract", draft).await?;
        let offered = self.offered(&granted, &draft.offered_to).await?;
        let named = format!("contract:{}@{}", draft.name, draft.version);
        let contract = self.0.checked(&granted, &named, Contract::from_draft(&draft, offered)).await?;
        let resource = format!("contract:{}@{}", contract.name(), contract.version());
        let stored = self.0.change(&granted, resource, move |tx| {
            let contract = contract.clone();
            Box::pin(async move {
                Ok(aesp_catalog::create_draft(tx, owner, &contract, Origin::Administrator).await?)
            })
        });
        Ok(Response::new(stored.await?.to_wire(owner)))
    }

    async fn activate_contract(
        &self,
        request: Request<ActivateContractRequest>,
    ) -> Result<Response<EnterpriseToolContract>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (owner, by, now) = (granted.tenant(), entry.caller.principal_id(), self.0.clock.now());
        let asked = entry.message;
        let stored =
            self.0.change(&granted, format!("contract:{}@{}", asked.name, asked.version), move |tx| {
                let asked = asked.clone();
                Box::pin(async move {
                    let expected =
                        (!asked.expected_digest.is_empty()).then_some(asked.expected_digest.as_slice());
                    let which = (asked.name.as_str(), asked.version.as_str());
                    Ok(aesp_catalog::activate(tx, owner, which, expected, by, now).await?)
                })
            });
        Ok(Response::new(stored.await?.to_wire(owner)))
    }

    async fn retire_contract(
        &self,
        request: Request<RetireContractRequest>,
    ) -> Result<Response<EnterpriseToolContract>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let owner = granted.tenant();
        let asked = entry.message;
        let stored =
            self.0.change(&granted, format!("contract:{}@{}", asked.name, asked.version), move |tx| {
                let asked = asked.clone();
                Box::pin(async move {
                    let which = (asked.name.as_str(), asked.version.as_str());
                    Ok(aesp_catalog::retire(tx, owner, which, &asked.reason).await?)
                })
            });
        Ok(Response::new(stored.await?.to_wire(owner)))
    }

    async fn get_contract(
        &self,
        request: Request<GetContractRequest>,
    ) -> Result<Response<EnterpriseToolContract>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let asked = entry.message;
        let read = self.0.read(&granted, format!("contract:{}", asked.name), move |tx| {
            let asked = asked.clone();
            Box::pin(async move {
                let version = (!asked.version.is_empty()).then_some(asked.version.as_str());
                Ok(aesp_catalog::get_contract(tx, tenant, &asked.name, version).await?)
            })
        });
        let (owner, stored) = read.await?;
        Ok(Response::new(stored.to_wire(owner)))
    }

    async fn list_contracts(
        &self,
        request: Request<ListContractsRequest>,
    ) -> Result<Response<ListContractsResponse>, Status> {
        use aesp_proto::v1::ContractStatus as Wire;
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let status = match entry.message.status() {
            Wire::Unspecified => None,
            Wire::Draft => Some(aesp_catalog::Status::Draft),
            Wire::Active => Some(aesp_catalog::Status::Active),
            Wire::Retired => Some(aesp_catalog::Status::Retired),
        };
        let page = entry.message.page.unwrap_or_default();
        let skip: usize = if page.cursor.is_empty() { 0 } else { super::parse(&page.cursor)? };
        let limit = super::limit(&page);
        let read = self.0.read(&granted, "contracts".into(), move |tx| {
            Box::pin(async move { Ok(aesp_catalog::list_contracts(tx, tenant, status).await?) })
        });
        let all = read.await?;
        let more = all.len() > skip.saturating_add(limit);
        let shown = all.iter().skip(skip).take(limit).map(|(owner, stored)| stored.to_wire(*owner));
        Ok(Response::new(ListContractsResponse {
            contracts: shown.collect(),
            next_cursor: if more { (skip + limit).to_string() } else { String::new() },
        }))
    }

    async fn import_adm(
        &self,
        request: Request<ImportAdmRequest>,
    ) -> Result<Response<ImportResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let asked = entry.message;
        let imported = aesp_catalog::import_adm(&asked.manifest_json, &asked.version);
        let imported = self.0.checked(&granted, "contracts", imported).await?;
        Ok(Response::new(self.import(granted, imported, &asked.offered_to, Origin::Adm).await?))
    }

    async fn import_mcp(
        &self,
        request: Request<ImportMcpRequest>,
    ) -> Result<Response<ImportResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let asked = entry.message;
        let imported = aesp_catalog::import_mcp(&asked.tools_json, &asked.version, &asked.name_prefix);
        let imported = self.0.checked(&granted, "contracts", imported).await?;
        Ok(Response::new(self.import(granted, imported, &asked.offered_to, Origin::Mcp).await?))
    }
}
