use std::{pin::Pin, time::Duration};

use aesp_audit::Receipt;
use aesp_call::{Granted, session_id};
use aesp_policy::Resource;
use aesp_proto::{
    Error, SessionId,
    v1::{
        AuthorizeToolCallRequest, AuthorizeToolCallResponse, CancelInvocationRequest,
        CancelInvocationResponse, CreateSessionRequest, DestroySessionRequest, DestroySessionResponse,
        EnterpriseSecurityContext, EventType, GetInvocationRequest, GetSessionRequest, Invocation,
        InvokeRequest, InvokeResponse, InvokeStreamResponse, ListSessionsRequest, ListSessionsResponse,
        ListToolsRequest, ListToolsResponse, LogToolResultRequest, LogToolResultResponse, Outcome,
        RenewSessionRequest, ResolveInvocationRequest, Session, agent_service_server,
    },
};
use aesp_session::{NewSession, SessionInfo};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{Context, Entry, enter, origin};

/// Sessions, the catalogue as the caller may see it, and calls.
pub(crate) struct Agent(pub(crate) Context);

type Parts = Pin<Box<dyn Stream<Item = Result<InvokeStreamResponse, Status>> + Send>>;

impl Agent {
    /// Permits the RPC's action on a session of the caller's tenant. One that does not exist is refused like another's.
    async fn session<T>(&self, entry: &Entry<T>, id: &str) -> Result<(Granted, SessionInfo), Error> {
        let caller = &entry.caller;
        let tenant = caller.tenant();
        let parsed = session_id(id);
        let info = match &parsed {
            Ok(id) => self.0.sessions.find(tenant, *id).await?,
            Err(_) => None,
        };
        let Some(info) = info else {
            // May the caller do this to a session of its own? If not, that is the answer, whatever there is.
            let id = parsed.unwrap_or(SessionId::from_bytes([0; 16]));
            let resource = Resource::Session { id, owner: caller.principal_id(), tenant };
            let granted = self.0.access.permit(caller, &entry.action, tenant, resource).await?;
            let event = granted.event(EventType::Authorization, Outcome::Denied, "session:unknown");
            self.0.recorder.append(vec![event]).await?;
            return Err(aesp_session::Error::Invalid.into());
        };
        let resource = |owner| Resource::Session { id: info.id, owner, tenant };
        let granted =
            match self.0.access.permit(caller, &entry.action, tenant, resource(info.principal)).await {
                Ok(granted) => granted,
                Err(refusal) if info.principal == caller.principal_id() => return Err(refusal),
                Err(_) => {
                    // The refusal is on record. What is heard of it is what a session that does not exist would have given.
                    let own = resource(caller.principal_id());
                    self.0.access.would_permit(caller, &entry.action, tenant, own).await?;
                    return Err(aesp_session::Error::Invalid.into());
                }
            };
        Ok((granted, info))
    }

    /// A request's security context may only agree with who the caller is; one that does not is refused on record.
    async fn agrees<T>(
        &self,
        entry: &Entry<T>,
        claimed: Option<&EnterpriseSecurityContext>,
    ) -> Result<(), Error> {
        let Some(claimed) = claimed else { return Ok(()) };
        let caller = &entry.caller;
        let same = |claim: &str, own: String| claim.is_empty() || claim == own;
        if same(&claimed.tenant_id, caller.tenant().to_string())
            && same(&claimed.principal_id, caller.principal_id().to_string())
        {
            return Ok(());
        }
        Err(self
            .0
            .access
            .refuse(caller, &entry.action, "security_context", aesp_call::tenant_access_denied())
            .await)
    }

    /// Records that something was read, and lets it out if it may be still. Called when the answer is ready.
    async fn read(&self, granted: &Granted, resource: String) -> Result<Receipt, Error> {
        let event = granted.event(EventType::DataAccess, Outcome::Success, resource);
        let receipt = self.0.recorder.append_with_receipt(event).await?;
        self.0.access.still(granted).await?;
        Ok(receipt)
    }
}

#[tonic::async_trait]
impl agent_service_server::AgentService for Agent {
    type InvokeStreamStream = Parts;

    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, "").await?;
        let asked = entry.message;

        let suggested = match asked.suggested_session_id.as_str() {
            "" => Ok(None),
            text => session_id(text).map(Some),
        };
        let kind = EventType::SessionCreated;
        let suggested = self.0.settled(&granted, kind, "session", suggested).await?;
        let view = self.0.views.get(granted.tenant()).await.map_err(Error::from)?;
        let new = NewSession {
            principal: entry.caller.principal_id(),
            suggested,
            metadata: asked.metadata.into_iter().collect(),
            ttl: (asked.ttl_seconds > 0).then(|| Duration::from_secs(asked.ttl_seconds.into())),
        };
        let created = self.0.sessions.create(&view.tenant, new, origin(&granted)).await;
        Ok(Response::new(self.0.settled(&granted, kind, "session", created).await?.into()))
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Result<Response<Session>, Status> {
        let entry = enter(request)?;
        let (granted, info) = self.session(&entry, &entry.message.session_id).await?;
        self.read(&granted, format!("session:{}", info.id)).await?;
        Ok(Response::new(info.into()))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let page = entry.message.page.clone().unwrap_or_default();
        let after = match page.cursor.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| Error::invalid("the cursor is malformed"))?),
        };
        // Without a tenant named, one's own; whoever names one lists for all.
        let own = entry.message.tenant_id.is_empty().then(|| entry.caller.principal_id());
        let limit = if page.limit == 0 { 100 } else { page.limit.min(1000) } as usize;
        let listed = self.0.sessions.list(granted.tenant(), own, after, limit).await;
        let (sessions, next) = listed.map_err(Error::from)?;
        self.read(&granted, "sessions".into()).await?;
        Ok(Response::new(ListSessionsResponse {
            sessions: sessions.into_iter().map(Into::into).collect(),
            next_cursor: next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn renew_session(
        &self,
        request: Request<RenewSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        let entry = enter(request)?;
        let (granted, info) = self.session(&entry, &entry.message.session_id).await?;
        let renewed = self.0.sessions.renew(info.tenant, info.id, origin(&granted)).await;
        let resource = format!("session:{}", info.id);
        let renewed = self.0.settled(&granted, EventType::SystemEvent, &resource, renewed).await?;
        Ok(Response::new(renewed.into()))
    }

    async fn destroy_session(
        &self,
        request: Request<DestroySessionRequest>,
    ) -> Result<Response<DestroySessionResponse>, Status> {
        let entry = enter(request)?;
        let (granted, info) = self.session(&entry, &entry.message.session_id).await?;
        let force = entry.message.force;
        let ended = self.0.sessions.destroy(info.tenant, info.id, force, origin(&granted)).await;
        let resource = format!("session:{}", info.id);
        let ended = self.0.settled(&granted, EventType::SessionDestroyed, &resource, ended).await?;
        let cancelled_calls = u32::try_from(ended).unwrap_or(u32::MAX);
        Ok(Response::new(DestroySessionResponse { cancelled_calls }))
    }

    async fn list_tools(
        &self,
        request: Request<ListToolsRequest>,
    ) -> Result<Response<ListToolsResponse>, Status> {
        let entry = enter(request)?;
        let (granted, info) = self.session(&entry, &entry.message.session_id).await?;
        let page = entry.message.page.clone().unwrap_or_default();
        let limit = if page.limit == 0 { 100 } else { page.limit.min(1000) } as usize;
        let mut tools = self.0.calls.tools(&granted, info.id).await?;
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        let mut rest = tools.into_iter().filter(|tool| tool.name > page.cursor);
        let tools: Vec<_> = rest.by_ref().take(limit).collect();
        let more = rest.next().is_some();
        let next_cursor = tools.last().filter(|_| more).map(|tool| tool.name.clone()).unwrap_or_default();
        self.read(&granted, "tools".into()).await?;
        Ok(Response::new(ListToolsResponse { tools, next_cursor }))
    }

    async fn invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        let entry = enter(request)?;
        Ok(Response::new(self.0.calls.invoke(entry.caller, entry.message).await?))
    }

    async fn invoke_stream(&self, request: Request<InvokeRequest>) -> Result<Response<Parts>, Status> {
        let entry = enter(request)?;
        let parts = self.0.calls.invoke_stream(entry.caller, entry.message);
        Ok(Response::new(Box::pin(parts.map(|part| part.map_err(Status::from)))))
    }

    async fn cancel_invocation(
        &self,
        request: Request<CancelInvocationRequest>,
    ) -> Result<Response<CancelInvocationResponse>, Status> {
        let entry = enter(request)?;
        let (granted, info) = self.session(&entry, &entry.message.session_id).await?;
        let invocation = &entry.message.invocation_id;
        let cancelled = self.0.sessions.cancel(info.tenant, info.id, invocation).await;
        let resource = format!("session:{}", info.id);
        let was_running = self.0.settled(&granted, EventType::ToolInvocation, &resource, cancelled).await?;
        let mut event = granted.event(EventType::ToolInvocation, Outcome::Success, resource);
        event.session = Some(info.id);
        event.details.invocation_id = invocation.chars().take(64).collect();
        self.0.recorder.append(vec![event]).await.map_err(Error::from)?;
        Ok(Response::new(CancelInvocationResponse { was_running }))
    }

    async fn get_invocation(
        &self,
        request: Request<GetInvocationRequest>,
    ) -> Result<Response<Invocation>, Status> {
        let entry = enter(request)?;
        let (granted, info) = self.session(&entry, &entry.message.session_id).await?;
        let outcome = self.0.calls.outcome(info.tenant, info.id, &entry.message.invocation_id).await;
        let receipt = self.read(&granted, format!("session:{}", info.id)).await?;
        Ok(Response::new(Invocation { receipt: Some(receipt.to_wire()), ..outcome? }))
    }

    async fn resolve_invocation(
        &self,
        request: Request<ResolveInvocationRequest>,
    ) -> Result<Response<Invocation>, Status> {
        let entry = enter(request)?;
        let (granted, info) = self.session(&entry, &entry.message.session_id).await?;
        let asked = &entry.message;
        let resolved = self.0.calls.resolve(
            &granted,
            info.id,
            &asked.invocation_id,
            asked.status(),
            &asked.justification,
        );
        let resource = format!("session:{}", info.id);
        let resolved = self.0.settled(&granted, EventType::ToolInvocation, &resource, resolved.await).await?;
        Ok(Response::new(resolved))
    }

    async fn authorize_tool_call(
        &self,
        request: Request<AuthorizeToolCallRequest>,
    ) -> Result<Response<AuthorizeToolCallResponse>, Status> {
        let entry = enter(request)?;
        self.agrees(&entry, entry.message.security_context.as_ref()).await?;
        Ok(Response::new(self.0.calls.authorize_local(entry.caller, entry.message).await?))
    }

    async fn log_tool_result(
        &self,
        request: Request<LogToolResultRequest>,
    ) -> Result<Response<LogToolResultResponse>, Status> {
        let entry = enter(request)?;
        // Deny by default holds here too: the right is asked for before anything is looked up.
        self.session(&entry, &entry.message.session_id).await?;
        Ok(Response::new(self.0.calls.log_local(entry.caller, entry.message).await?))
    }
}
