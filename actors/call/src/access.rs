use std::sync::Arc;

use aesp_audit::{Event, Recorder};
use aesp_policy::{Context, Permit, Request, Resource};
use aesp_proto::{
    Clock, Entropy, Error, ErrorCode, SessionId, TenantId,
    v1::{EventType, Outcome},
};

use crate::{Authenticator, View, Views, caller::Caller, error::tenant_access_denied};

/// Decides whether a caller may perform an operation, and records every refusal before the caller hears of it.
/// Cheap to clone.
#[derive(Clone)]
pub struct Access {
    pub(crate) views: Views,
    pub(crate) authenticator: Authenticator,
    pub(crate) recorder: Recorder,
    pub(crate) entropy: Entropy,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Proof that `caller` may perform `action` on something of `tenant`.
#[derive(Clone, Debug)]
pub struct Granted {
    caller: Caller,
    tenant: TenantId,
    action: Arc<str>,
    resource: Resource<'static>,
    permit: Permit,
    /// What it was decided by.
    view: Arc<View>,
    entropy: Entropy,
}

impl Granted {
    /// Returns who asked.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the tenant whose things are concerned.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Returns the permit.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Returns what was permitted.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Starts the record of what was done under this grant.
    #[must_use]
    pub fn event(&self, kind: EventType, outcome: Outcome, resource: impl Into<String>) -> Event {
        let mut event = event_of(&self.entropy, &self.caller, self.tenant, kind, &self.action, outcome);
        event.decision = Some(self.permit.decision());
        event.revision = self.permit.revision();
        event.details.resource = resource.into();
        event
    }

    /// Starts the records of a successful change: one in the log of the tenant concerned and, when a platform operator
    /// reached into it, one in the platform's.
    #[must_use]
    pub fn changed(&self, resource: impl Into<String>) -> Vec<Event> {
        self.both(self.event(EventType::ConfigurationChange, Outcome::Success, resource))
    }

    /// Starts the records of what came to nothing, in the same logs. They say what the client is told, no more.
    #[must_use]
    pub fn failed(&self, kind: EventType, resource: impl Into<String>, error: &Error) -> Vec<Event> {
        let mut event = self.event(kind, Outcome::Failure, resource);
        event.details.reason = format!("{}: {}", error.code().as_str_name(), error.message());
        self.both(event)
    }

    fn both(&self, event: Event) -> Vec<Event> {
        if self.caller.tenant() == self.tenant {
            return vec![event];
        }
        let mut own = event.clone();
        own.id = aesp_proto::EventId::random(&self.entropy);
        own.tenant = self.caller.tenant();
        own.details.fields.push(("tenant".into(), self.tenant.to_string()));
        vec![event, own]
    }
}

impl Access {
    /// Creates the access decisions.
    #[must_use]
    pub fn new(
        views: Views,
        authenticator: Authenticator,
        recorder: Recorder,
        entropy: Entropy,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { views, authenticator, recorder, entropy, clock }
    }

    /// Permits `action` on `resource`, which belongs to `tenant`.
    ///
    /// # Errors
    /// The refusal, after its record is durable.
    pub async fn permit(
        &self,
        caller: &Caller,
        action: &str,
        tenant: TenantId,
        resource: Resource<'static>,
    ) -> Result<Granted, Error> {
        let decided = self.decide(caller, action, tenant, &resource, self.context(caller, None)).await;
        match decided {
            Ok((permit, view)) => Ok(Granted {
                caller: caller.clone(),
                tenant,
                action: action.into(),
                resource,
                permit,
                view,
                entropy: self.entropy.clone(),
            }),
            Err(refusal) => Err(self.record_refusal(caller, action, name_of(&resource), refusal).await),
        }
    }

    /// Tells whether what was read under a grant may still be answered: decides again if rights have changed since.
    ///
    /// INVARIANT R1: called when the answer is ready and its record durable; nothing waits between this and the answer.
    ///
    /// # Errors
    /// The refusal, after its record is durable.
    pub async fn still(&self, granted: &Granted) -> Result<(), Error> {
        let caller = &granted.caller;
        let decided = match self.views.get(caller.tenant()).await {
            Ok(view) if view.same_rights(&granted.view) => return Ok(()),
            Ok(_) => self.again(granted).await,
            Err(error) => Err(error.into()),
        };
        match decided {
            Ok(()) => Ok(()),
            Err(refusal) => {
                let resource = name_of(&granted.resource);
                Err(self.record_refusal(caller, &granted.action, resource, refusal).await)
            }
        }
    }

    async fn again(&self, granted: &Granted) -> Result<(), Error> {
        let caller = &granted.caller;
        self.authenticator.recheck(caller).await?;
        // After whatever that waited for.
        let view = self.views.get(caller.tenant()).await?;
        let context = self.context(caller, None);
        self.decide_in(&view, caller, &granted.action, &granted.resource, context).map(|_| ())
    }

    /// Permits `action` on the tenant as a whole.
    ///
    /// # Errors
    /// As [`Access::permit`].
    pub async fn permit_tenant(
        &self,
        caller: &Caller,
        action: &str,
        tenant: TenantId,
    ) -> Result<Granted, Error> {
        self.permit(caller, action, tenant, Resource::Tenant(tenant)).await
    }

    /// Tells whether the caller might perform `action` on such a resource. Nothing is done under it, so nothing is recorded.
    ///
    /// # Errors
    /// The refusal.
    pub async fn would_permit(
        &self,
        caller: &Caller,
        action: &str,
        tenant: TenantId,
        resource: Resource<'_>,
    ) -> Result<(), Error> {
        let decided = self.decide(caller, action, tenant, &resource, self.context(caller, None)).await;
        decided.map(|_| ()).map_err(|refusal| refusal.correlated(&caller.source.correlation_id))
    }

    /// Decides without a record; the pipeline records its refusals with the call.
    pub(crate) async fn decide(
        &self,
        caller: &Caller,
        action: &str,
        tenant: TenantId,
        resource: &Resource<'_>,
        context: Context<'_>,
    ) -> Result<(Permit, Arc<View>), Error> {
        crosses_tenants(caller.tenant(), tenant, action)?;
        let view = self.views.get(caller.tenant()).await?;
        let permit = self.decide_in(&view, caller, action, resource, context)?;
        Ok((permit, view))
    }

    /// Decides by a view that the caller of this function already holds.
    pub(crate) fn decide_in(
        &self,
        view: &View,
        caller: &Caller,
        action: &str,
        resource: &Resource<'_>,
        context: Context<'_>,
    ) -> Result<Permit, Error> {
        if let Some(refusal) = view.tenant.refuses_calls() {
            return Err(refusal.into());
        }
        if view.identity.active(caller.principal.id).is_none() {
            return Err(Error::new(ErrorCode::InvalidCredentials, "the account is not active"));
        }
        let request = Request {
            principal: caller.principal.id,
            principal_kind: caller.principal.kind.as_str_name(),
            tenant: caller.tenant(),
            on_behalf_of: None,
            action,
            resource: resource.clone(),
            context,
        };
        // A step-up or an approval that is missing is a denial that says so.
        Ok(aesp_policy::authorize(&view.policy, &self.entropy, &request).into_permit()?)
    }

    pub(crate) fn context<'a>(&self, caller: &Caller, session: Option<SessionId>) -> Context<'a> {
        Context { now: self.clock.now(), source_ip: caller.source.ip, session, arguments: None, depth: 0 }
    }

    /// Records a refusal that was decided elsewhere, and hands it back for the client.
    pub async fn refuse(&self, caller: &Caller, action: &str, what: &str, refusal: Error) -> Error {
        self.record_refusal(caller, action, what.to_owned(), refusal).await
    }

    /// Writes the refusal into the log of the caller's own tenant. If that fails, the client hears of that instead: an
    /// unrecorded decision must not look like a recorded one.
    async fn record_refusal(&self, caller: &Caller, action: &str, resource: String, refusal: Error) -> Error {
        let tenant = caller.tenant();
        let kind = EventType::Authorization;
        let mut event = event_of(&self.entropy, caller, tenant, kind, action, Outcome::Denied);
        event.details.resource = resource;
        event.details.reason = format!("{}: {}", refusal.code().as_str_name(), refusal.message());
        event.decision = refusal.decision_id().and_then(|id| id.parse().ok());
        match self.recorder.append(vec![event]).await {
            Ok(()) => refusal.correlated(&caller.source.correlation_id),
            Err(error) => Error::from(error).correlated(&caller.source.correlation_id),
        }
    }
}

/// Starts a record with what is known of every request.
pub(crate) fn event_of(
    entropy: &Entropy,
    caller: &Caller,
    tenant: TenantId,
    kind: EventType,
    action: &str,
    outcome: Outcome,
) -> Event {
    let mut event = Event::new(entropy, tenant, kind, action, outcome);
    event.principal = Some(caller.principal.id);
    event.details.source_ip = caller.source.ip.map(|ip| ip.to_string()).unwrap_or_default();
    event.details.user_agent.clone_from(&caller.source.user_agent);
    event.details.correlation_id.clone_from(&caller.source.correlation_id);
    event
}

/// INVARIANT T1: only platform operators reach into another tenant, and never into its sessions and calls.
fn crosses_tenants(own: TenantId, target: TenantId, action: &str) -> Result<(), Error> {
    let data =
        ["session.create", "tool.invoke", "tool.list", "tool.cancel", "tool.log_result", "tool.outcome"];
    if own == target || (own == TenantId::PLATFORM && !data.contains(&action)) {
        return Ok(());
    }
    Err(tenant_access_denied())
}

/// Names a resource in records.
fn name_of(resource: &Resource<'_>) -> String {
    match resource {
        Resource::Tenant(tenant) => format!("tenant:{tenant}"),
        Resource::Session { id, .. } => format!("session:{id}"),
        Resource::Tool { name, version, .. } => format!("tool:{name}@{version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_platform_crosses_tenants_and_not_into_calls() {
        let (a, b) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        assert!(crosses_tenants(a, a, "tool.invoke").is_ok());
        assert!(crosses_tenants(a, b, "tenant.read").is_err());
        assert!(crosses_tenants(a, TenantId::PLATFORM, "tenant.read").is_err());
        assert!(crosses_tenants(TenantId::PLATFORM, a, "tenant.read").is_ok());
        assert!(crosses_tenants(TenantId::PLATFORM, a, "tool.invoke").is_err());
    }
}
