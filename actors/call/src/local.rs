use std::time::Duration;

use aesp_proto::{
    DispatchId, Error, Id, kind,
    v1::{
        AuthorizationStatus, AuthorizeToolCallRequest, AuthorizeToolCallResponse, EventType, InvokeRequest,
        LogStatus, LogToolResultRequest, LogToolResultResponse, Outcome as EventOutcome, ToolError,
    },
};
use aesp_session::{Outcome, OutcomeState, Payload, Settled};
use bytes::Bytes;
use prost::Message;

use crate::{
    Caller, Calls,
    access::event_of,
    request::{CallRequest, InvocationId, session_id},
    reserved::Reserved,
};

/// How long a permit for a tool that runs at the agent lasts: within it, execution may start.
const AUTHORIZATION_TTL: Duration = Duration::from_secs(30);

impl Calls {
    /// Makes every check of a call for a tool that runs at the agent, and records the intent.
    ///
    /// # Errors
    /// Malformed requests and failures of the Host; a refusal of the call is an answer.
    pub async fn authorize_local(
        &self,
        caller: Caller,
        request: AuthorizeToolCallRequest,
    ) -> Result<AuthorizeToolCallResponse, Error> {
        let invocation = Id::<kind::Request>::random(&self.access().entropy).to_string();
        let request = InvokeRequest {
            session_id: request.session_id,
            invocation_id: invocation.clone(),
            call: request.call,
            correlation_id: request.correlation_id,
            ..InvokeRequest::default()
        };
        let default = caller.source().correlation_id.clone();
        let request = match CallRequest::parse(request, &default) {
            Ok(request) => request,
            Err(error) => return Err(self.refuse_unadmitted(&caller, None, error).await),
        };
        let correlation_id = request.correlation_id.clone();
        match self.permit_local(caller, request).await {
            Ok(()) => Ok(AuthorizeToolCallResponse {
                status: AuthorizationStatus::Approved.into(),
                invocation_id: invocation,
                correlation_id,
                authorization_ttl_ms: u32::try_from(AUTHORIZATION_TTL.as_millis()).unwrap_or(u32::MAX),
                ..AuthorizeToolCallResponse::default()
            }),
            Err(error) if crate::ending::is_denial(error.code()) => Ok(AuthorizeToolCallResponse {
                status: AuthorizationStatus::Denied.into(),
                correlation_id,
                error: Some(ToolError {
                    message: error.message().to_owned(),
                    r#type: error.code().as_str_name().to_owned(),
                }),
                ..AuthorizeToolCallResponse::default()
            }),
            Err(error) => Err(error.correlated(correlation_id)),
        }
    }

    async fn permit_local(&self, caller: Caller, request: CallRequest) -> Result<(), Error> {
        let admitted = match self.admit(caller.clone(), request.clone()).await {
            Ok(admitted) => admitted,
            Err(error) => return Err(self.refuse_unadmitted(&caller, Some(&request), error).await),
        };
        let permitted = match self.validated(admitted).and_then(|validated| validated.permit(self)) {
            Ok(permitted) => permitted,
            Err(refused) => {
                let (admitted, error) = *refused;
                return Err(self.refuse(&admitted, error).await);
            }
        };
        match permitted.reserve(self).await {
            Ok(Reserved::Run(mut permitted, running)) => {
                let intended = match permitted.recheck(self).await {
                    Ok(_) => {
                        let dispatch = DispatchId::random(&self.access().entropy);
                        permitted.intend(self, &running, dispatch).await
                    }
                    Err(error) => Err(error),
                };
                match intended {
                    Ok(None) => Ok(()),
                    Ok(Some(_)) => Err(Error::internal("a drawn invocation id was in use")),
                    Err(error) => Err(self.refuse(&permitted.validated.admitted, error).await),
                }
            }
            // The id was drawn a moment ago.
            Ok(Reserved::Replay(..)) => Err(Error::internal("a drawn invocation id was in use")),
            Err((permitted, error)) => Err(self.refuse(&permitted.validated.admitted, error).await),
        }
    }

    /// Records the result of a tool that ran at the agent under [`Calls::authorize_local`].
    ///
    /// # Errors
    /// `SESSION_INVALID`, `INVALID_REQUEST`; the store's. A result that nobody authorised, or that was reported before, is
    /// answered with `REJECTED`.
    pub async fn log_local(
        &self,
        caller: Caller,
        request: LogToolResultRequest,
    ) -> Result<LogToolResultResponse, Error> {
        let session = session_id(&request.session_id)?;
        let invocation = InvocationId::parse(request.invocation_id)?;
        let result = request.result.ok_or_else(|| Error::invalid("result is missing"))?;
        let tenant = caller.tenant();
        self.session_of(&caller, session, caller.principal_id()).await?;
        let row = self.recorded_outcome(tenant, session, invocation.as_str()).await?;
        let fence = self.shards().fence(session.as_bytes()).map_err(aesp_session::Error::from)?;
        let (entropy, kind) = (&self.access().entropy, EventType::ToolInvocation);
        let mut event = event_of(entropy, &caller, tenant, kind, "tool.log_result", EventOutcome::Success);
        event.session = Some(session);
        event.details.invocation_id = invocation.as_str().to_owned();
        event.details.result = Some(result.content_json.clone());
        event.details.fields.push(("execution_time_ms".into(), request.execution_time_ms.to_string()));
        let Some(row) = row.filter(|row| matches!(row.state, OutcomeState::Intended)) else {
            event.outcome = EventOutcome::Denied;
            event.details.reason = "no call is open under this invocation id".into();
            self.recorder().append(vec![event]).await?;
            return Ok(LogToolResultResponse { status: LogStatus::Rejected.into(), event_id: String::new() });
        };
        event.details.resource = format!("tool:{}@{}", row.tool, row.version);
        let settled = if result.error.is_none() { Settled::Succeeded } else { Settled::Failed };
        if settled == Settled::Failed {
            event.outcome = EventOutcome::Failure;
        }
        let event_id = event.id.to_string();
        let payload = Payload::of(Bytes::from(result.encode_to_vec()));
        let outcome = Outcome { settled, payload, event: Some(event.id) };
        let now = self.access().clock.now();
        self.recorder()
            .record_for(tenant, move |tx| {
                let (name, outcome, event) = (invocation.as_str().to_owned(), outcome.clone(), event.clone());
                Box::pin(async move {
                    aesp_session::resolve(tx, fence, (tenant, session), &name, outcome, now).await?;
                    Ok::<_, Error>(((), vec![event]))
                })
            })
            .await?;
        Ok(LogToolResultResponse { status: LogStatus::Logged.into(), event_id })
    }
}
