use std::pin::Pin;

use aesp_proto::{
    Error,
    v1::{
        self, ConfigChange, ConfigKey, ConfigValue, GetConfigHistoryRequest, GetConfigHistoryResponse,
        GetConfigValueRequest, ListConfigKeysRequest, ListConfigKeysResponse, RollbackConfigRequest,
        SetConfigValueRequest, SubscribeToChangesRequest, enterprise_configuration_service_server,
    },
};
use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};

use super::{Context, enter};

/// The tenants' typed configuration.
pub(crate) struct Configuration(pub(crate) Context);

fn wire(change: aesp_tenant::Change) -> ConfigChange {
    ConfigChange { value: Some(change.value.into()), initial: change.initial }
}

type Changes = Pin<Box<dyn Stream<Item = Result<ConfigChange, Status>> + Send>>;

#[tonic::async_trait]
impl enterprise_configuration_service_server::EnterpriseConfigurationService for Configuration {
    type SubscribeToChangesStream = Changes;

    async fn get_config_value(
        &self,
        request: Request<GetConfigValueRequest>,
    ) -> Result<Response<ConfigValue>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, key) = (granted.tenant(), entry.message.key);
        let read = self.0.read(&granted, format!("config:{key}"), move |tx| {
            let key = key.clone();
            Box::pin(async move { Ok(aesp_tenant::config_get(tx, tenant, &key).await?) })
        });
        Ok(Response::new(read.await?.into()))
    }

    async fn set_config_value(
        &self,
        request: Request<SetConfigValueRequest>,
    ) -> Result<Response<ConfigValue>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, by, now) = (granted.tenant(), entry.caller.principal_id(), self.0.clock.now());
        let asked = entry.message;
        let set = self.0.change(&granted, format!("config:{}", asked.key), move |tx| {
            let asked = asked.clone();
            Box::pin(async move {
                let by = (by, now, asked.comment.as_str());
                Ok(aesp_tenant::config_set(tx, tenant, &asked.key, &asked.value, asked.expected_version, by)
                    .await?)
            })
        });
        Ok(Response::new(set.await?.into()))
    }

    async fn list_config_keys(
        &self,
        request: Request<ListConfigKeysRequest>,
    ) -> Result<Response<ListConfigKeysResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        self.0.read(&granted, "config keys".into(), |_| Box::pin(async { Ok(()) })).await?;
        let keys = aesp_tenant::KEYS.iter().map(|key| ConfigKey {
            key: key.name.to_owned(),
            r#type: key.type_name().to_owned(),
            description: key.description.to_owned(),
            default_value: key.default.to_owned(),
            sensitive: key.is_sensitive(),
        });
        Ok(Response::new(ListConfigKeysResponse { keys: keys.collect() }))
    }

    async fn subscribe_to_changes(
        &self,
        request: Request<SubscribeToChangesRequest>,
    ) -> Result<Response<Changes>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        self.0.read(&granted, "config changes".into(), |_| Box::pin(async { Ok(()) })).await?;
        let changes = aesp_tenant::config_changes(self.0.store.clone(), tenant, &entry.message.keys);
        let changes = changes.map_err(Error::from)?;
        // INVARIANT R1: a subscription ends with the right to it.
        let (context, caller, action) = (self.0.clone(), entry.caller, entry.action);
        let permitted = changes.then(move |changes| {
            let (context, caller, action) = (context.clone(), caller.clone(), action.clone());
            async move {
                context.authenticator.recheck(&caller).await?;
                context.access.permit_tenant(&caller, &action, tenant).await?;
                Ok::<_, Error>(changes?)
            }
        });
        let flat = permitted.flat_map(|changes| match changes {
            Ok(changes) => {
                stream::iter(changes.into_iter().map(|change| Ok(wire(change))).collect::<Vec<_>>())
            }
            Err(error) => stream::iter(vec![Err(Status::from(error))]),
        });
        let mut ended = false;
        let until_refused = flat.take_while(move |change| {
            let show = !ended;
            ended = change.is_err();
            async move { show }
        });
        Ok(Response::new(Box::pin(until_refused)))
    }

    async fn get_config_history(
        &self,
        request: Request<GetConfigHistoryRequest>,
    ) -> Result<Response<GetConfigHistoryResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, key) = (granted.tenant(), entry.message.key);
        let page: v1::Page = entry.message.page.unwrap_or_default();
        let limit = super::limit(&page);
        let before: Option<u32> = super::optional(&page.cursor)?;
        let read = self.0.read(&granted, format!("config:{key}"), move |tx| {
            let key = key.clone();
            Box::pin(async move { Ok(aesp_tenant::config_history(tx, tenant, &key, before, limit).await?) })
        });
        let versions = read.await?;
        let full = versions.len() == limit;
        let next_cursor =
            versions.last().filter(|_| full).map(|last| last.version.to_string()).unwrap_or_default();
        let versions = versions.into_iter().map(Into::into).collect();
        Ok(Response::new(GetConfigHistoryResponse { versions, next_cursor }))
    }

    async fn rollback_config(
        &self,
        request: Request<RollbackConfigRequest>,
    ) -> Result<Response<ConfigValue>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, by, now) = (granted.tenant(), entry.caller.principal_id(), self.0.clock.now());
        let asked = entry.message;
        let set = self.0.change(&granted, format!("config:{}", asked.key), move |tx| {
            let asked = asked.clone();
            Box::pin(async move {
                let by = (by, now, "rolled back");
                Ok(aesp_tenant::config_rollback(tx, tenant, &asked.key, asked.version, by).await?)
            })
        });
        Ok(Response::new(set.await?.into()))
    }
}
