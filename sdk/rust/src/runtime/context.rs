use aesp_proto::{DispatchId, v1::ToolCall};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{call::CallBuilder, client::Client, session::Session};

/// What a handler knows of the call it serves.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The caller's name of the call, unique in its session only.
    pub invocation_id: String,
    /// Names the request in the Host's logs; put it in yours.
    pub correlation_id: String,
    /// The Host's name of this attempt.
    pub dispatch_id: DispatchId,
    /// The tenant that the call belongs to.
    pub tenant_id: String,
    /// The session that the call belongs to.
    pub session_id: String,
    /// The tool's name.
    pub tool: String,
    /// The version of its contract.
    pub version: String,
    /// When the caller gives up, if ever.
    pub deadline: Option<Instant>,
    /// In how many calls this one is nested.
    pub depth: u32,
    /// Whether the caller reads chunks.
    pub streaming: bool,
    pub(crate) cancellation: CancellationToken,
    pub(crate) client: Client,
}

impl CallContext {
    pub(crate) fn new(
        call: &ToolCall,
        dispatch_id: DispatchId,
        deadline: Option<Instant>,
        client: Client,
    ) -> Self {
        let function = call.call.clone().unwrap_or_default();
        Self {
            invocation_id: call.invocation_id.clone(),
            correlation_id: call.correlation_id.clone(),
            dispatch_id,
            tenant_id: call.tenant_id.clone(),
            session_id: call.session_id.clone(),
            tool: function.name,
            version: function.version,
            deadline,
            depth: call.depth,
            streaming: call.streaming,
            cancellation: CancellationToken::new(),
            client,
        }
    }

    /// Returns the token that is cancelled when the call ends early. The handler's own future is dropped then; tasks that it
    /// spawned must watch this.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Prepares a call of another tool: made by this Runtime, on behalf of the caller of this call, in the same session.
    /// The Host checks the rights of both. It may not outlast this call.
    pub fn call(&self, name: impl Into<String>, args: Value) -> CallBuilder {
        let session = Session::existing(self.client.clone(), self.session_id.clone(), self.tenant_id.clone());
        let call = session.call(name, args).on_behalf_of(self.dispatch_id);
        match self.deadline {
            Some(deadline) => call.timeout(deadline.saturating_duration_since(Instant::now())),
            None => call,
        }
    }
}
