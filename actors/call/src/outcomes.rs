use aesp_audit::Receipt;
use aesp_proto::{
    Error, ErrorCode, EventId, SessionId, TenantId,
    v1::{
        EventType, FunctionResult, Invocation, InvocationStatus, Outcome as EventOutcome, ResultStatus,
        ToolError,
    },
};
use aesp_session::{Outcome, OutcomeRow, OutcomeState, Payload, Settled};
use bytes::Bytes;
use prost::Message;

use crate::{Calls, access::Granted, admitted::session_invalid};

impl Calls {
    /// Returns what is known of a call.
    ///
    /// # Errors
    /// `NOT_FOUND`; the store's.
    pub async fn outcome(
        &self,
        tenant: TenantId,
        session: SessionId,
        invocation: &str,
    ) -> Result<Invocation, Error> {
        let row = self.recorded_outcome(tenant, session, invocation).await?.ok_or_else(|| {
            Error::new(ErrorCode::NotFound, "no outcome is recorded for this invocation_id").remedy(
                "a call without one had no effect, or runs: ask again, or call again with the same id",
            )
        })?;
        Ok(describe(session, &row))
    }

    /// Settles a call whose outcome is unknown, as an operator says.
    ///
    /// # Errors
    /// `STATE_CONFLICT` if it has an outcome; `INVALID_REQUEST`; the store's.
    pub async fn resolve(
        &self,
        granted: &Granted,
        session: SessionId,
        invocation: &str,
        status: InvocationStatus,
        justification: &str,
    ) -> Result<Invocation, Error> {
        let settled = match status {
            InvocationStatus::InvocationSucceeded => Settled::Succeeded,
            InvocationStatus::InvocationFailed => Settled::Failed,
            InvocationStatus::InvocationCancelled => Settled::Cancelled,
            _ => return Err(Error::invalid("status must be INVOCATION_SUCCEEDED, _FAILED or _CANCELLED")),
        };
        if justification.trim().is_empty() {
            return Err(Error::invalid("justification is missing: the record must say how you know"));
        }
        let (tenant, now) = (granted.tenant(), self.access().clock.now());
        let info = self.sessions().find(tenant, session).await?.ok_or_else(session_invalid)?;
        let fence = self.shards().fence(info.id.as_bytes()).map_err(aesp_session::Error::from)?;
        let mut event =
            granted.event(EventType::ToolInvocation, EventOutcome::Success, format!("session:{session}"));
        event.session = Some(session);
        event.details.invocation_id = invocation.to_owned();
        event.details.reason = format!("{}: {justification}", status.as_str_name());
        let outcome = Outcome { settled, payload: told_by_operator(settled), event: Some(event.id) };
        let invocation = invocation.to_owned();
        let (row, receipt) = self
            .recorder()
            .record_with_receipt(tenant, move |tx| {
                let (invocation, outcome, event) = (invocation.clone(), outcome.clone(), event.clone());
                Box::pin(async move {
                    let at = (tenant, session);
                    let row = aesp_session::resolve(tx, fence, at, &invocation, outcome, now).await?;
                    Ok::<_, Error>((row, vec![event]))
                })
            })
            .await?;
        let receipt = receipt.as_ref().map(Receipt::to_wire);
        Ok(Invocation { receipt, ..describe(session, &row) })
    }
}

/// What a repeat hears of a call that an operator settled.
fn told_by_operator(settled: Settled) -> Payload {
    let mut result = FunctionResult { name: "resolved".into(), ..FunctionResult::default() };
    if settled == Settled::Succeeded {
        result.set_status(ResultStatus::Success);
        result.content_json = Bytes::from_static(b"null");
    } else {
        result.set_status(ResultStatus::Error);
        let message = "an operator settled the call as failed".to_owned();
        result.error = Some(ToolError { message, r#type: "RESOLVED".into() });
    }
    Payload::of(Bytes::from(result.encode_to_vec()))
}

fn describe(session: SessionId, row: &OutcomeRow) -> Invocation {
    let (status, result) = match &row.state {
        OutcomeState::Intended | OutcomeState::Unknown => (InvocationStatus::InvocationOutcomeUnknown, None),
        OutcomeState::Recorded(outcome) | OutcomeState::Resolved(outcome) => {
            let status = match outcome.settled {
                Settled::Succeeded => InvocationStatus::InvocationSucceeded,
                Settled::Failed => InvocationStatus::InvocationFailed,
                Settled::Cancelled => InvocationStatus::InvocationCancelled,
            };
            (status, outcome.payload.kept().and_then(|kept| FunctionResult::decode(kept.clone()).ok()))
        }
    };
    Invocation {
        session_id: session.to_string(),
        invocation_id: row.invocation.clone(),
        status: status.into(),
        result,
        tool: row.tool.clone(),
        version: row.version.clone(),
        recorded_at_ms: row.written_at.0,
        receipt: None,
    }
}

/// The id of no event.
pub(crate) const NO_EVENT: EventId = EventId::from_bytes([0; 16]);
