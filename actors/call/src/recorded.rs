use std::sync::Arc;

use aesp_audit::{Event, Receipt};
use aesp_cluster::Fence;
use aesp_proto::{
    DispatchId, Error, ErrorCode, EventId, SessionId, TenantId,
    v1::{EventType, FunctionResult, Outcome as EventOutcome, ResultStatus, ToolError},
};
use aesp_session::{Outcome, OutcomeRow, OutcomeState, Payload, Settled};
use bytes::Bytes;
use prost::Message;

use crate::{
    Calls,
    calls::DispatchRow,
    dispatched::Running,
    ending::{Ending, Reply},
    validated::Permitted,
};

impl Running<'_> {
    /// Makes the end durable: the audit event, and what a repeat is answered with, in one transaction. Only then may the
    /// caller hear of it.
    pub(crate) async fn record(self, ending: Ending) -> Result<Reply, Error> {
        let Running { calls, permitted, fence, dispatch, attempts, mut streamed, intended, holder, .. } =
            self;
        let mut event = calls.event(permitted, EventType::ToolInvocation, "tool.invoke", ending.outcome());
        event.details.reason = ending.reason();
        let admitted = &permitted.validated.admitted;
        let took = admitted.started.elapsed().as_millis();
        event.details.fields.push(("duration_ms".into(), took.to_string()));
        event.details.fields.push(("attempts".into(), attempts.to_string()));
        if streamed.count() > 0 {
            event.details.fields.push(("chunks".into(), streamed.count().to_string()));
        }
        let session = admitted.session.id;
        let id = event.id;
        event.details.result = streamed.recorded(match &ending {
            Ending::Answered(result) => result.content_json.clone(),
            _ => Bytes::new(),
        });
        match ending {
            Ending::Answered(result) => {
                let settled = if result.error.is_none() { Settled::Succeeded } else { Settled::Failed };
                let row = answer_row(calls, permitted, dispatch, id, settled, &result);
                let receipt =
                    calls.write(fence, admitted.caller.tenant(), session, row, vec![event], intended).await?;
                let last = streamed.take_last();
                Ok(Reply { result, event: id, replayed: false, receipt, last, right: None })
            }
            Ending::Failed(error) => {
                let row = answer_row(calls, permitted, dispatch, id, Settled::Failed, &host_failure(&error));
                calls.write(fence, admitted.caller.tenant(), session, row, vec![event], intended).await?;
                Err(error)
            }
            Ending::Unknown(error) => {
                let row = OutcomeRow {
                    state: OutcomeState::Unknown,
                    dispatch: Some(dispatch),
                    ..permitted.row(calls)
                };
                let tenant = admitted.caller.tenant();
                let belongs = DispatchRow {
                    tenant,
                    session,
                    invocation: row.invocation.clone(),
                    runtime: holder.and_then(|holder| holder.identity()).map(|identity| identity.to_string()),
                };
                let row = Arc::new(row);
                calls
                    .recorder()
                    .record_for(tenant, move |tx| {
                        let (row, belongs, event) = (Arc::clone(&row), belongs.clone(), event.clone());
                        Box::pin(async move {
                            aesp_session::write_outcome(tx, fence, tenant, session, &row).await?;
                            if let Some(first) = intended.filter(|first| *first != dispatch) {
                                tx.delete::<DispatchRow>(TenantId::PLATFORM, &first).await?;
                            }
                            // Only the Runtime that had the call may settle it.
                            tx.put(TenantId::PLATFORM, &dispatch, &belongs).await?;
                            Ok::<_, Error>(((), vec![event]))
                        })
                    })
                    .await?;
                Err(error)
            }
            Ending::Refused(error) if intended.is_some() => {
                // It had no effect: the intent must not stand for a call that may have run.
                let (tenant, invocation) =
                    (admitted.caller.tenant(), admitted.request.invocation.as_str().to_owned());
                let first = intended;
                calls
                    .recorder()
                    .record_for(tenant, move |tx| {
                        let (invocation, event) = (invocation.clone(), event.clone());
                        Box::pin(async move {
                            aesp_session::withdraw_intent(tx, fence, tenant, session, &invocation).await?;
                            if let Some(first) = first {
                                tx.delete::<DispatchRow>(TenantId::PLATFORM, &first).await?;
                            }
                            Ok::<_, Error>(((), vec![event]))
                        })
                    })
                    .await?;
                Err(error)
            }
            Ending::Refused(error) => {
                calls.recorder().append(vec![event]).await?;
                Err(error)
            }
        }
    }
}

fn answer_row(
    calls: &Calls,
    permitted: &Permitted,
    dispatch: DispatchId,
    event: EventId,
    settled: Settled,
    result: &FunctionResult,
) -> OutcomeRow {
    let payload = Payload::of(Bytes::from(result.encode_to_vec()));
    OutcomeRow {
        state: OutcomeState::Recorded(Outcome { settled, payload, event: Some(event) }),
        dispatch: Some(dispatch),
        ..permitted.row(calls)
    }
}

/// What is kept of a failure that the Host found: no tool's name, the code as type.
fn host_failure(error: &Error) -> FunctionResult {
    let tool_error =
        ToolError { message: error.message().to_owned(), r#type: error.code().as_str_name().to_owned() };
    FunctionResult {
        status: ResultStatus::Error.into(),
        error: Some(tool_error),
        ..FunctionResult::default()
    }
}

/// Answers a repeat with what was recorded.
pub(crate) fn replay(outcome: &Outcome) -> Result<Reply, Error> {
    if outcome.settled == Settled::Cancelled {
        return Err(
            Error::new(ErrorCode::Cancelled, "the call was cancelled").remedy("choose a new invocation_id")
        );
    }
    let kept = outcome.payload.kept().ok_or_else(|| {
        Error::new(ErrorCode::StateConflict, "the call succeeded, but its result was too large to be kept")
            .remedy("call again under a new invocation_id if the tool may run twice")
    })?;
    let result = FunctionResult::decode(kept.clone()).map_err(Error::internal)?;
    match &result.error {
        Some(error) if result.name.is_empty() => {
            let code = ErrorCode::from_str_name(&error.r#type).unwrap_or(ErrorCode::InternalError);
            Err(Error::new(code, error.message.clone()))
        }
        _ => {
            let event = outcome.event.unwrap_or(crate::outcomes::NO_EVENT);
            Ok(Reply { result, event, replayed: true, receipt: None, last: None, right: None })
        }
    }
}

impl Calls {
    /// Writes a call's row with its events, under the session's fence. What its intent named is nobody's any more. Returns the receipt
    /// of the last event.
    pub(crate) async fn write(
        &self,
        fence: Fence,
        tenant: TenantId,
        session: SessionId,
        row: OutcomeRow,
        events: Vec<Event>,
        intended: Option<DispatchId>,
    ) -> Result<Option<Receipt>, Error> {
        let row = Arc::new(row);
        let recorded = self
            .recorder()
            .record_with_receipt(tenant, move |tx| {
                let (row, events) = (Arc::clone(&row), events.clone());
                Box::pin(async move {
                    aesp_session::write_outcome(tx, fence, tenant, session, &row).await?;
                    if let Some(intended) = intended {
                        tx.delete::<DispatchRow>(TenantId::PLATFORM, &intended).await?;
                    }
                    Ok::<_, Error>(((), events))
                })
            })
            .await;
        Ok(recorded?.1)
    }

    /// Starts the record of a call.
    pub(crate) fn event(
        &self,
        permitted: &Permitted,
        kind: EventType,
        action: &str,
        outcome: EventOutcome,
    ) -> Event {
        let validated = &permitted.validated;
        let mut event = self.event_of(&validated.admitted, kind, action, outcome);
        let contract = validated.contract.contract();
        event.decision = Some(permitted.permit.decision());
        event.revision = permitted.permit.revision();
        event.details.resource = format!("tool:{}@{}", contract.name(), contract.version());
        event.details.arguments = Some(validated.admitted.request.arguments.clone());
        event.classification = Some(contract.classification().as_str());
        if validated.contract.is_development() {
            event.details.fields.push(("development".into(), "true".into()));
        }
        event
    }
}
