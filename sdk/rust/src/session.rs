use std::time::Duration;

use aesp_proto::{
    Error, Id, IdKind, Timestamp,
    v1::{
        self, CancelInvocationRequest, DestroySessionRequest, Invocation, ListToolsRequest, Page,
        RenewSessionRequest, ToolSummary,
    },
};
use serde_json::Value;

use crate::{call::CallBuilder, client::Client, stream::CallStream};

const TOOLS_A_PAGE: u32 = 1000;

enum InvocationKind {}

impl IdKind for InvocationKind {
    const PREFIX: &'static str = "inv";
}

/// A session of the Host: bound to one tenant and one principal for life. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    client: Client,
    id: String,
    tenant_id: String,
    expires_at: Timestamp,
}

impl Session {
    pub(crate) fn new(client: Client, session: v1::Session) -> Self {
        Self {
            client,
            id: session.session_id,
            tenant_id: session.tenant_id,
            expires_at: Timestamp(session.expires_at_ms),
        }
    }

    /// Returns a session that is known to exist, without asking the Host.
    pub(crate) fn existing(client: Client, id: String, tenant_id: String) -> Self {
        Self { client, id, tenant_id, expires_at: Timestamp::default() }
    }

    /// Returns the session's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the id of its tenant.
    #[must_use]
    pub fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// Returns when it ends unless it is renewed, by the Host's clock, as of when this value was made.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Returns the client that it belongs to.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the tools that may be called in it now.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached.
    pub async fn list_tools(&self) -> Result<Vec<ToolSummary>, Error> {
        let mut tools = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = Page { limit: TOOLS_A_PAGE, cursor };
            let request = ListToolsRequest { session_id: self.id.clone(), page: Some(page) };
            let answer = self
                .client
                .repeated(|| {
                    let (mut agent, request) = (self.client.agent(), request.clone());
                    async move { agent.list_tools(request).await }
                })
                .await?;
            tools.extend(answer.tools);
            if answer.next_cursor.is_empty() {
                return Ok(tools);
            }
            cursor = answer.next_cursor;
        }
    }

    /// Prepares a call of the tool `name`; awaiting it makes the call and returns a [`crate::CallResult`].
    ///
    /// It has a fresh invocation id, under which it is repeated when the Host can't answer at the moment: the tool runs once.
    pub fn call(&self, name: impl Into<String>, args: Value) -> CallBuilder {
        let invocation_id = Id::<InvocationKind>::random(self.client.entropy()).to_string();
        CallBuilder::new(self.client.clone(), self.id.clone(), invocation_id, name.into(), args)
    }

    /// Calls the tool `name` and returns its parts as they come. The same as `call(name, args).stream()`.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached.
    pub async fn call_stream(&self, name: impl Into<String>, args: Value) -> Result<CallStream, Error> {
        self.call(name, args).stream().await
    }

    /// Cancels a call; returns whether it was running.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached.
    pub async fn cancel(&self, invocation_id: &str) -> Result<bool, Error> {
        let request =
            CancelInvocationRequest { session_id: self.id.clone(), invocation_id: invocation_id.to_owned() };
        let answer = self
            .client
            .repeated(|| {
                let (mut agent, request) = (self.client.agent(), request.clone());
                async move { agent.cancel_invocation(request).await }
            })
            .await?;
        Ok(answer.was_running)
    }

    /// Returns the recorded outcome of a call, or that it still runs, or that its outcome is unknown.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached.
    pub async fn invocation(&self, invocation_id: &str) -> Result<Invocation, Error> {
        let request =
            v1::GetInvocationRequest { session_id: self.id.clone(), invocation_id: invocation_id.to_owned() };
        self.client
            .repeated(|| {
                let (mut agent, request) = (self.client.agent(), request.clone());
                async move { agent.get_invocation(request).await }
            })
            .await
    }

    /// Extends the session's life by its time to live, from now; returns how long it has, by the Host's reckoning.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached.
    pub async fn renew(&mut self) -> Result<Duration, Error> {
        let request = RenewSessionRequest { session_id: self.id.clone() };
        let session = self
            .client
            .repeated(|| {
                let (mut agent, request) = (self.client.agent(), request.clone());
                async move { agent.renew_session(request).await }
            })
            .await?;
        self.expires_at = Timestamp(session.expires_at_ms);
        Ok(Duration::from_secs(session.ttl_seconds.into()))
    }

    /// Destroys the session. Refused while calls run, unless `force`: then they are cancelled. Returns how many were.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached.
    pub async fn close(self, force: bool) -> Result<u32, Error> {
        let request = DestroySessionRequest { session_id: self.id.clone(), force };
        let answer = self
            .client
            .repeated(|| {
                let (mut agent, request) = (self.client.agent(), request.clone());
                async move { agent.destroy_session(request).await }
            })
            .await?;
        Ok(answer.cancelled_calls)
    }
}
