use std::{future::IntoFuture, time::Duration};

use aesp_audit_receipt::Receipt;
use aesp_proto::{
    DispatchId, Error, ErrorCode,
    v1::{FunctionCall, FunctionResult, InvokeRequest, ResultStatus},
};
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::time::timeout;
use tonic::Status;

use crate::{client::Client, failure::ToolFailure, stream::CallStream};

/// How long past its own time limit a call waits for the Host to say that the time is over.
const GRACE: Duration = Duration::from_secs(5);

/// A call that is prepared and not made yet. Await it, or [`CallBuilder::stream`] it.
#[derive(Clone, Debug)]
#[must_use = "a call is made when it is awaited"]
pub struct CallBuilder {
    client: Client,
    request: InvokeRequest,
    args: Value,
}

/// What came of a call that the Host let through.
#[derive(Clone, Debug, PartialEq)]
pub struct CallResult {
    /// The id under which the call is known in its session.
    pub invocation_id: String,
    /// Names the request in the Host's logs.
    pub correlation_id: String,
    /// The audit record of this answer.
    pub event_id: String,
    /// Whether the outcome was recorded by an earlier attempt.
    pub replayed: bool,
    /// What the Host signed when it recorded this answer: kept, it shows later that the log acknowledged it. Of a replay it is for the
    /// record that the replay made.
    pub receipt: Option<Receipt>,
    /// The tool's result, or how it failed.
    pub outcome: Result<Value, ToolFailure>,
}

impl CallResult {
    /// Returns the tool's result.
    ///
    /// # Errors
    /// `TOOL_FAILED` with the tool's own message.
    pub fn into_content(self) -> Result<Value, Error> {
        self.outcome.map_err(|failure| {
            Error::new(ErrorCode::ToolFailed, failure.to_string()).correlated(self.correlation_id)
        })
    }
}

impl CallBuilder {
    pub(crate) fn new(
        client: Client,
        session_id: String,
        invocation_id: String,
        name: String,
        args: Value,
    ) -> Self {
        let call = FunctionCall { name, ..FunctionCall::default() };
        let request =
            InvokeRequest { session_id, invocation_id, call: Some(call), ..InvokeRequest::default() };
        Self { client, request, args }
    }

    /// Returns the id under which the call is known in its session, for [`crate::Session::cancel`].
    #[must_use]
    pub fn invocation_id(&self) -> &str {
        &self.request.invocation_id
    }

    /// Sets the invocation id: 1 to 64 visible ASCII characters, unique in the session. The same id with the same arguments
    /// returns the recorded outcome.
    pub fn with_invocation_id(mut self, id: impl Into<String>) -> Self {
        self.request.invocation_id = id.into();
        self
    }

    /// Calls this version of the contract instead of the active one.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.request.call.get_or_insert_default().version = version.into();
        self
    }

    /// Bounds the call; the contract's own time limit bounds it as well.
    pub fn timeout(mut self, limit: Duration) -> Self {
        // 0 would stand for the contract's own limit.
        self.request.timeout_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// Names the request in the Host's logs, in at most 64 characters.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.request.correlation_id = id.into();
        self
    }

    /// Makes the call on behalf of the caller of a dispatch that this Runtime works on.
    pub fn on_behalf_of(mut self, dispatch: DispatchId) -> Self {
        self.request.on_behalf_of_dispatch_id = dispatch.to_string();
        self
    }

    /// Makes the call, repeating it under the same invocation id while the Host can't answer.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached. A tool that failed is not an error here but
    /// an outcome.
    pub async fn send(self) -> Result<CallResult, Error> {
        let request = self.encode()?;
        let sent = self.client.repeated(|| {
            let (mut agent, request) = (self.client.agent(), request.clone());
            async move { agent.invoke(request).await }
        });
        let answer = match self.request.timeout_ms {
            0 => sent.await?,
            ms => timeout(Duration::from_millis(ms.into()) + GRACE, sent).await.map_err(|_| {
                Error::new(ErrorCode::DeadlineExceeded, "the Host did not answer within the call's time")
                    .remedy("ask for the outcome with the same invocation id")
            })??,
        };
        Ok(CallResult {
            invocation_id: answer.invocation_id,
            correlation_id: answer.correlation_id,
            event_id: answer.event_id,
            replayed: answer.replayed,
            receipt: answer.receipt.map(Receipt::from),
            outcome: outcome(answer.result.unwrap_or_default())?,
        })
    }

    /// Makes the call and returns its parts as they come.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached.
    pub async fn stream(self) -> Result<CallStream, Error> {
        let request = self.encode()?;
        let (parts, first) = self
            .client
            .repeated(|| {
                let (mut agent, request) = (self.client.agent(), request.clone());
                async move {
                    let mut parts = agent.invoke_stream(request).await?.into_inner();
                    // The checks of a call come before its first part, so their refusal may still be repeated.
                    let first =
                        parts.message().await?.ok_or_else(|| Status::unavailable("the stream is empty"))?;
                    Ok(tonic::Response::new((parts, first)))
                }
            })
            .await?;
        Ok(CallStream::new(parts, first))
    }

    fn encode(&self) -> Result<InvokeRequest, Error> {
        if !self.args.is_object() {
            return Err(Error::new(ErrorCode::SchemaViolation, "the arguments of a tool are a JSON object"));
        }
        let args = serde_json::to_vec(&self.args).map_err(Error::internal)?;
        let mut request = self.request.clone();
        request.call.get_or_insert_default().args_json = args.into();
        Ok(request)
    }
}

impl IntoFuture for CallBuilder {
    type Output = Result<CallResult, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Reads the tool's result out of the wire's.
pub(crate) fn outcome(result: FunctionResult) -> Result<Result<Value, ToolFailure>, Error> {
    if result.status() == ResultStatus::Error || result.error.is_some() {
        return Ok(Err(ToolFailure::from(result.error.unwrap_or_default())));
    }
    if result.content_json.is_empty() {
        return Ok(Ok(Value::Null));
    }
    serde_json::from_slice(&result.content_json)
        .map(Ok)
        .map_err(|e| Error::new(ErrorCode::TransportError, "the Host's answer is not JSON").because(e))
}
