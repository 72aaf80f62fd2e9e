use std::sync::Arc;

use aesp_alerts::Alerts;
use aesp_audit::{Recorder, Refused};
use aesp_call::{Access, Authenticator, Caller, Calls, Granted, Source, View, Views};
use aesp_cluster::{Cluster, Ownership};
use aesp_identity::{Principal, Tokens};
use aesp_proto::{
    Clock, Entropy, Error, ErrorCode, Operation, TenantId,
    v1::{EventType, GetUserPermissionsRequest, GetUserPermissionsResponse, Outcome},
};
use aesp_runtime::Runtimes;
use aesp_search::Index;
use aesp_session::{Origin, Sessions};
use aesp_sinks::Sinks;
use aesp_storage::{Store, Transaction};
use aesp_tenant::Tenants;
use aesp_witness::Witnessing;
use futures::future::BoxFuture;
use tonic::{Request, Status};

use super::audit::Followers;
use crate::{backup::Backups, cluster::Others, joining::Door, keys::Duty};

/// What the services share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) index: Index,
    pub(crate) followers: Followers,
    pub(crate) views: Views,
    pub(crate) authenticator: Authenticator,
    pub(crate) access: Access,
    pub(crate) recorder: Recorder,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) tenants: Tenants,
    pub(crate) sessions: Sessions,
    pub(crate) runtimes: Runtimes,
    pub(crate) calls: Calls,
    pub(crate) cluster: Cluster,
    pub(crate) ownership: Ownership,
    pub(crate) others: Others,
    pub(crate) door: Arc<Door>,
    pub(crate) backups: Backups,
    pub(crate) sinks: Sinks,
    pub(crate) witnessing: Witnessing,
    pub(crate) retention: aesp_retention::Duty,
    pub(crate) alerts: Alerts,
    pub(crate) duty: Duty,
    pub(crate) entropy: Entropy,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A request that the guard let through.
pub(crate) struct Entry<T> {
    pub(crate) caller: Caller,
    pub(crate) action: String,
    pub(crate) message: T,
}

/// Takes what the guard found out of the request.
pub(crate) fn enter<T>(request: Request<T>) -> Result<Entry<T>, Status> {
    let (_, extensions, message) = request.into_parts();
    let caller = extensions.get::<Caller>().cloned();
    let operation = extensions.get::<Operation>().cloned();
    match (caller, operation) {
        (Some(caller), Some(operation)) => Ok(Entry { caller, action: operation.action, message }),
        // Only a wiring mistake gets here: fail closed.
        _ => Err(Error::new(ErrorCode::AuthenticationFailed, "the request was not authenticated").into()),
    }
}

/// Takes the source of a request that needs no authentication.
pub(crate) fn source<T>(request: &Request<T>) -> Source {
    request.extensions().get::<Source>().cloned().unwrap_or_default()
}

/// Says in the record who asked.
pub(crate) fn origin(granted: &Granted) -> Origin {
    let caller = granted.caller();
    Origin {
        principal: Some(caller.principal_id()),
        decision: Some(granted.permit().decision()),
        revision: granted.permit().revision(),
        source_ip: caller.source().ip.map(|ip| ip.to_string()).unwrap_or_default(),
        user_agent: caller.source().user_agent.clone(),
        correlation_id: caller.source().correlation_id.clone(),
    }
}

impl Context {
    /// Resolves the tenant that a request names by id or name; empty is the caller's own.
    pub(crate) async fn tenant(&self, caller: &Caller, named: &str) -> Result<TenantId, Error> {
        if named.is_empty() {
            return Ok(caller.tenant());
        }
        if let Ok(id) = named.parse::<TenantId>() {
            return Ok(id);
        }
        let name = named.to_owned();
        let found = self
            .store
            .run(move |tx| {
                let name = name.clone();
                Box::pin(async move { Ok::<_, Error>(aesp_tenant::resolve(tx, &name).await?) })
            })
            .await?;
        found.ok_or_else(aesp_call::tenant_access_denied)
    }

    /// Permits the RPC's own action on the tenant that the request names.
    pub(crate) async fn grant<T>(&self, entry: &Entry<T>, tenant: &str) -> Result<Granted, Error> {
        self.grant_named(&entry.caller, &entry.action, tenant).await
    }

    /// As [`Context::grant`], for a request that is no RPC.
    pub(crate) async fn grant_named(
        &self,
        caller: &Caller,
        action: &str,
        tenant: &str,
    ) -> Result<Granted, Error> {
        // An unknown name is refused like another's tenant, with a record.
        let target = match self.tenant(caller, tenant).await {
            Ok(target) => target,
            Err(error) if error.code() == ErrorCode::TenantAccessDenied => TenantId::from_bytes([0xff; 16]),
            Err(error) => return Err(error),
        };
        let granted = self.access.permit_tenant(caller, action, target).await?;
        if target != caller.tenant()
            && let Err(error) = self.views.get(target).await
        {
            // Only operators get here: the tenant does not exist or was deleted, so its log can't take the record.
            let mut event =
                granted.event(EventType::Authorization, Outcome::Denied, format!("tenant:{target}"));
            event.tenant = caller.tenant();
            event.details.reason = "there is no such tenant".into();
            self.recorder.append(vec![event]).await?;
            return Err(error.into());
        }
        Ok(granted)
    }

    /// Performs a change and records it, in one transaction; when this returns, every decision sees it.
    pub(crate) async fn change<T, F>(&self, granted: &Granted, resource: String, body: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
    {
        let value = self.commit(granted, resource, body).await?;
        self.apply(granted.tenant()).await?;
        Ok(value)
    }

    /// Performs a change and records it, in one transaction, and leaves [`Context::apply`] to the caller, who has more to end
    /// than decisions: that must be ended also when a view can't be loaded.
    pub(crate) async fn commit<T, F>(&self, granted: &Granted, resource: String, body: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
    {
        let events = granted.changed(&resource);
        let body = Arc::new(body);
        let recorded = self.recorder.record(move |tx| {
            let (events, body) = (events.clone(), Arc::clone(&body));
            Box::pin(async move { Ok::<_, Error>((body(tx).await?, events)) })
        });
        self.checked(granted, &resource, recorded.await).await
    }

    /// Records that a change under a grant came to nothing, before the client hears of it.
    pub(crate) async fn checked<T, E: Into<Error>>(
        &self,
        granted: &Granted,
        resource: &str,
        outcome: Result<T, E>,
    ) -> Result<T, Error> {
        self.settled(granted, EventType::ConfigurationChange, resource, outcome).await
    }

    /// As [`Context::checked`], for what is no change of the tenant's configuration. What is refused for load is only counted: a
    /// record of each would be more load.
    pub(crate) async fn settled<T, E: Into<Error>>(
        &self,
        granted: &Granted,
        kind: EventType,
        resource: &str,
        outcome: Result<T, E>,
    ) -> Result<T, Error> {
        let error: Error = match outcome {
            Ok(value) => return Ok(value),
            Err(error) => error.into(),
        };
        if matches!(error.code(), ErrorCode::RateLimitExceeded | ErrorCode::QuotaExceeded) {
            self.recorder.observe_refused(Refused {
                source_ip: granted.caller().source().ip,
                action: granted.action().to_owned().into(),
                reason: error.code().as_str_name().into(),
                tenant: Some(granted.tenant()),
            });
        } else {
            self.recorder.append(granted.failed(kind, resource, &error)).await?;
        }
        Err(error)
    }

    /// Records a refusal that comes after the grant, before the client hears of it.
    pub(crate) async fn denied<T>(
        &self,
        granted: &Granted,
        resource: &str,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        match outcome {
            Err(refusal) => {
                Err(self.access.refuse(granted.caller(), granted.action(), resource, refusal).await)
            }
            allowed => allowed,
        }
    }

    /// Finds a principal of the grant's tenant by name or id (empty is the caller), and records that it was looked up.
    pub(crate) async fn principal(
        &self,
        granted: &Granted,
        named: &str,
    ) -> Result<(Arc<Principal>, Arc<View>), Error> {
        let view = self.views.get(granted.tenant()).await?;
        let own = granted.caller().principal_id().to_string();
        let named = if named.is_empty() { own.as_str() } else { named };
        let found = view.identity.by_name(named).cloned();
        let outcome = if found.is_some() { Outcome::Success } else { Outcome::Failure };
        let event = granted.event(EventType::DataAccess, outcome, format!("principal:{named}"));
        self.recorder.append(vec![event]).await?;
        self.access.still(granted).await?;
        let principal = found.ok_or_else(|| Error::new(ErrorCode::NotFound, "there is no such principal"))?;
        Ok((principal, view))
    }

    /// Reads under a grant, and records that it was read, or looked for in vain. What is read goes out only if it may be still.
    pub(crate) async fn read<T, F>(&self, granted: &Granted, resource: String, body: F) -> Result<T, Error>
    where
        T: Send,
        F: for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<T, Error>> + Send + Sync,
    {
        let value = self.store.run(body).await;
        let outcome = if value.is_ok() { Outcome::Success } else { Outcome::Failure };
        let mut event = granted.event(EventType::DataAccess, outcome, resource);
        if let Err(error) = &value {
            event.details.reason = error.code().as_str_name().to_owned();
        }
        self.recorder.append(vec![event]).await?;
        self.access.still(granted).await?;
        value
    }

    /// Returns what a principal of the tenant may do, as its roles say now.
    pub(crate) async fn permissions(
        &self,
        entry: &Entry<GetUserPermissionsRequest>,
    ) -> Result<GetUserPermissionsResponse, Error> {
        let granted = self.grant(entry, &entry.message.tenant_id).await?;
        let (principal, view) = self.principal(&granted, &entry.message.principal_id).await?;
        let permissions = view.policy.effective(principal.id, self.clock.now());
        Ok(GetUserPermissionsResponse { permissions })
    }
}
