use std::time::Duration;

use aesp_audit::Receipt;
use aesp_proto::{
    Error, Id, Timestamp, kind,
    v1::{
        AuthorizationStatus, AuthorizeToolCallRequest, AuthorizeToolCallResponse, EventType, InvokeRequest,
        LogStatus, LogToolResultRequest, LogToolResultResponse, Outcome as EventOutcome, ToolError,
    },
};
use aesp_session::{Depth, Outcome, OutcomeRow, OutcomeState, Payload, Settled};
use bytes::Bytes;
use prost::Message;

use crate::{
    Caller, Calls,
    access::event_of,
    request::{CallRequest, InvocationId, session_id},
    reserved::Reserved,
    validated::Permitted,
};

/// How long a permit for a tool that runs at the agent lasts: within it, execution may start.
const AUTHORIZATION_TTL: Duration = Duration::from_secs(30);
/// How far what an agent says of its times may be off, by its clock and by the way to the Host.
const SLACK: Duration = Duration::from_secs(5);

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
            Ok(receipt) => Ok(AuthorizeToolCallResponse {
                status: AuthorizationStatus::Approved.into(),
                invocation_id: invocation,
                correlation_id,
                authorization_ttl_ms: u32::try_from(AUTHORIZATION_TTL.as_millis()).unwrap_or(u32::MAX),
                receipt: receipt.as_ref().map(Receipt::to_wire),
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

    async fn permit_local(&self, caller: Caller, request: CallRequest) -> Result<Option<Receipt>, Error> {
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
                let mut intended = permitted.recheck(self).await.map(|_| None);
                if intended.is_ok() {
                    intended = self.intend_local(&permitted, &running).await;
                }
                if intended.is_ok()
                    // INVARIANT R1: rights may have changed while the intent was written.
                    && let Err(error) = permitted.recheck(self).await
                {
                    intended = Err(error);
                }
                match intended {
                    Ok(receipt) => Ok(receipt),
                    Err(error) => Err(self.refuse(&permitted.validated.admitted, error).await),
                }
            }
            // The id was drawn a moment ago.
            Ok(Reserved::Replay(..)) => Err(Error::internal("a drawn invocation id was in use")),
            Err((permitted, error)) => Err(self.refuse(&permitted.validated.admitted, error).await),
        }
    }

    /// Makes the permit durable, with its end. No Runtime ever hears of this call, so no dispatch is named.
    async fn intend_local(
        &self,
        permitted: &Permitted,
        running: &aesp_session::Running,
    ) -> Result<Option<Receipt>, Error> {
        let until = self.access().clock.now().plus(AUTHORIZATION_TTL);
        let row =
            OutcomeRow { state: OutcomeState::Intended, permitted_until: Some(until), ..permitted.row(self) };
        let mut event =
            self.event(permitted, EventType::ToolInvocation, "tool.intent", EventOutcome::Success);
        event.details.fields.push(("permitted_until_ms".into(), until.0.to_string()));
        let admitted = &permitted.validated.admitted;
        let (tenant, session) = (admitted.caller.tenant(), admitted.session.id);
        self.write(running.fence(), tenant, session, row, vec![event], None).await
    }

    /// Records the result of a tool that ran at the agent under [`Calls::authorize_local`].
    ///
    /// # Errors
    /// `SESSION_INVALID`, `INVALID_REQUEST`; the store's. A result that nobody authorised, that was reported before, or whose
    /// tool started when the permit had ended, is answered with `REJECTED`, and recorded as that.
    pub async fn log_local(
        &self,
        caller: Caller,
        request: LogToolResultRequest,
    ) -> Result<LogToolResultResponse, Error> {
        let session = session_id(&request.session_id)?;
        let invocation = InvocationId::parse(request.invocation_id)?;
        let result = request.result.ok_or_else(|| Error::invalid("result is missing"))?;
        let tenant = caller.tenant();
        self.session_of(&caller, session, caller.principal_id(), Depth::Outermost).await?;
        let row = self.recorded_outcome(tenant, session, invocation.as_str()).await?;
        let fence = self.shards().fence(session.as_bytes()).map_err(aesp_session::Error::from)?;
        let (entropy, kind) = (&self.access().entropy, EventType::ToolInvocation);
        let mut event = event_of(entropy, &caller, tenant, kind, "tool.log_result", EventOutcome::Success);
        event.session = Some(session);
        event.details.invocation_id = invocation.as_str().to_owned();
        event.details.result = Some(result.content_json.clone());
        event.details.fields.push(("execution_time_ms".into(), request.execution_time_ms.to_string()));
        let now = self.access().clock.now();
        let took = Duration::from_millis(request.execution_time_ms);
        let row = match open(row, now, took) {
            Ok(row) => row,
            Err(reason) => {
                event.outcome = EventOutcome::Denied;
                event.details.reason = reason.into();
                let event_id = event.id.to_string();
                let receipt = Some(self.recorder().append_with_receipt(event).await?.to_wire());
                return Ok(LogToolResultResponse { status: LogStatus::Rejected.into(), event_id, receipt });
            }
        };
        event.details.resource = format!("tool:{}@{}", row.tool, row.version);
        let settled = if result.error.is_none() { Settled::Succeeded } else { Settled::Failed };
        if settled == Settled::Failed {
            event.outcome = EventOutcome::Failure;
        }
        let event_id = event.id.to_string();
        let payload = Payload::of(Bytes::from(result.encode_to_vec()));
        let outcome = Outcome { settled, payload, event: Some(event.id) };
        let recorded = self
            .recorder()
            .record_with_receipt(tenant, move |tx| {
                let (name, outcome, event) = (invocation.as_str().to_owned(), outcome.clone(), event.clone());
                Box::pin(async move {
                    aesp_session::resolve(tx, fence, (tenant, session), &name, outcome, now).await?;
                    Ok::<_, Error>(((), vec![event]))
                })
            })
            .await;
        let receipt = recorded?.1.as_ref().map(Receipt::to_wire);
        Ok(LogToolResultResponse { status: LogStatus::Logged.into(), event_id, receipt })
    }
}

/// Returns the row of the open permit that a tool which ended at `now` and took `took` ran under.
///
/// # Errors
/// Why there is none, for the record.
fn open(row: Option<OutcomeRow>, now: Timestamp, took: Duration) -> Result<OutcomeRow, &'static str> {
    let row = row.filter(|row| matches!(row.state, OutcomeState::Intended));
    // A call that a Runtime runs is settled by what the Runtime answers, never by what its caller says.
    let (row, until) = row
        .and_then(|row| row.permitted_until.map(|until| (row, until)))
        .ok_or("no permit for a tool at the agent is open under this invocation id")?;
    let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    let started = Timestamp(now.0.saturating_sub(took_ms));
    if started > until.plus(SLACK) {
        return Err("the tool started after its permit had ended");
    }
    if started.plus(SLACK) < row.written_at {
        return Err("the tool is said to have started before it was permitted");
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMITTED: Timestamp = Timestamp(1_000_000);

    fn row(permitted_until: Option<Timestamp>, state: OutcomeState) -> OutcomeRow {
        OutcomeRow {
            invocation: "one".into(),
            tool: "echo".into(),
            version: "1.0.0".into(),
            arguments_digest: [1; 32],
            state,
            dispatch: None,
            permitted_until,
            written_at: PERMITTED,
            keep_until: PERMITTED,
        }
    }

    fn ended(after_ms: i64, took_ms: u64) -> Result<OutcomeRow, &'static str> {
        let permit = row(Some(PERMITTED.plus(AUTHORIZATION_TTL)), OutcomeState::Intended);
        open(Some(permit), Timestamp(PERMITTED.0 + after_ms), Duration::from_millis(took_ms))
    }

    #[test]
    fn a_tool_may_start_within_the_permit_and_end_later() {
        for (after_ms, took_ms) in [(0, 0), (10, 5), (30_000, 0), (35_000, 0), (3_600_000, 3_580_000)] {
            assert!(ended(after_ms, took_ms).is_ok(), "{after_ms} {took_ms}");
        }
    }

    #[test]
    fn a_tool_that_started_outside_of_the_permit_is_refused() {
        for (after_ms, took_ms) in [(35_001, 0), (40_000, 4_998), (i64::MAX - PERMITTED.0, 0)] {
            assert_eq!(ended(after_ms, took_ms).unwrap_err(), "the tool started after its permit had ended");
        }
        // One that is said to have run for longer than the permit is old can't have had it.
        for (after_ms, took_ms) in [(10_000, 15_001), (0, u64::MAX), (-3_600_000, 0)] {
            let error = ended(after_ms, took_ms).unwrap_err();
            assert_eq!(error, "the tool is said to have started before it was permitted");
        }
    }

    #[test]
    fn what_was_no_open_permit_is_not_settled_by_the_agent() {
        let until = Some(PERMITTED.plus(AUTHORIZATION_TTL));
        let closed = [
            None,
            // A call at a Runtime.
            Some(row(None, OutcomeState::Intended)),
            Some(row(until, OutcomeState::Unknown)),
            Some(row(until, OutcomeState::Recorded(Outcome::default()))),
            Some(row(until, OutcomeState::Resolved(Outcome::default()))),
        ];
        for row in closed {
            assert!(open(row.clone(), PERMITTED, Duration::ZERO).is_err(), "{row:?}");
        }
    }
}
