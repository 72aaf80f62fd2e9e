use std::sync::Arc;

use aesp_catalog::{Effects, Risk};
use aesp_cluster::Fence;
use aesp_proto::{
    DispatchId, Error, ErrorCode, TenantId,
    v1::{EventType, Outcome},
};
use aesp_session::{Begin, Depth, OutcomeRow, OutcomeState};
use futures::future::join;

use crate::{
    Calls,
    calls::DispatchRow,
    ending::{Reply, outcome_unknown},
    recorded::replay,
    validated::Permitted,
};

/// What the reservation of an invocation id found.
pub(crate) enum Reserved {
    /// Nobody else runs it, and it has no outcome, or its intent will find out: it may be dispatched.
    Run(Box<Permitted>, aesp_session::Running),
    /// It ran before, here or elsewhere; this is what came of it.
    Replay(Box<Permitted>, Box<Reply>),
}

impl Permitted {
    /// Reserves the invocation id: joins a running call of the same id, returns a recorded outcome, or takes the id.
    pub(crate) async fn reserve(self: Box<Self>, calls: &Calls) -> Result<Reserved, (Box<Self>, Error)> {
        let digest = self.validated.digest;
        let admitted = &self.validated.admitted;
        let (tenant, session) = (admitted.caller.tenant(), admitted.session.id);
        let invocation = admitted.request.invocation.as_str();
        let (sessions, principal) = (calls.sessions(), admitted.session.principal);
        // On behalf of somebody: it belongs to a call that runs, and that waits for it.
        let depth = if admitted.behalf.is_some() { Depth::Nested } else { Depth::Outermost };
        let begun = sessions.begin(tenant, session, principal, invocation, digest, depth);
        let running = match begun.await {
            Ok(Begin::New(running)) => running,
            Ok(Begin::Join(joined)) => {
                let deadline = self.validated.deadline;
                return match tokio::time::timeout_at(deadline, joined.ended()).await {
                    // The first caller may have ended without an outcome; then this one tries.
                    Ok(()) => Box::pin(self.reserve(calls)).await,
                    Err(_) => {
                        Err((self, Error::new(ErrorCode::DeadlineExceeded, "the same call is still running")))
                    }
                };
            }
            Err(error) => return Err((self, error.into())),
        };
        if self.needs_intent() {
            // The intent's own transaction looks for an earlier attempt.
            return Ok(Reserved::Run(self, running));
        }
        match calls.recorded_outcome(tenant, session, invocation).await {
            Ok(None) => Ok(Reserved::Run(self, running)),
            Ok(Some(row)) => match self.settle(&row, digest) {
                Ok(Some(reply)) => Ok(Reserved::Replay(self, Box::new(reply))),
                Ok(None) => Ok(Reserved::Run(self, running)),
                Err(error) => Err((self, error)),
            },
            Err(error) => Err((self, error)),
        }
    }

    /// Decides what an earlier attempt's row means: its answer, another attempt (`None`), or a refusal.
    fn settle(&self, row: &OutcomeRow, digest: [u8; 32]) -> Result<Option<Reply>, Error> {
        if row.arguments_digest != digest {
            return Err(Error::new(
                ErrorCode::StateConflict,
                "this invocation_id was used with another call",
            )
            .remedy("choose a new invocation_id for every call"));
        }
        match &row.state {
            OutcomeState::Recorded(outcome) | OutcomeState::Resolved(outcome) => replay(outcome).map(Some),
            OutcomeState::Intended | OutcomeState::Unknown => {
                // INVARIANT I1
                if self.validated.contract.contract().effects() == Effects::NonIdempotent {
                    Err(outcome_unknown("an earlier attempt was interrupted"))
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// Tells whether the Runtime may hear of the call only after the intent is durable.
    pub(crate) fn needs_intent(&self) -> bool {
        let contract = self.validated.contract.contract();
        contract.risk() == Risk::High || contract.effects() == Effects::NonIdempotent
    }

    /// Makes the intent durable: after a crash this row says that the call may have run. Returns the answer of an earlier
    /// attempt instead, if there is one.
    pub(crate) async fn intend(
        &self,
        calls: &Calls,
        running: &aesp_session::Running,
        dispatch: DispatchId,
    ) -> Result<Option<Reply>, Error> {
        let row = OutcomeRow { state: OutcomeState::Intended, dispatch: Some(dispatch), ..self.row(calls) };
        let event = calls.event(self, EventType::ToolInvocation, "tool.intent", Outcome::Success);
        let admitted = &self.validated.admitted;
        let (tenant, session) = (admitted.caller.tenant(), admitted.session.id);
        let belongs = DispatchRow { tenant, session, invocation: row.invocation.clone(), runtime: None };
        let may_repeat = self.validated.contract.contract().effects() != Effects::NonIdempotent;
        let (fence, row) = (running.fence(), Arc::new(row));
        let earlier = calls
            .recorder()
            .record_for(tenant, move |tx| {
                let (row, belongs, event) = (Arc::clone(&row), belongs.clone(), event.clone());
                Box::pin(async move {
                    let intent = aesp_session::write_intent(tx, fence, tenant, session, &row, may_repeat);
                    // Together, so that the keys of both tenants come in one round.
                    let (earlier, keys) = join(intent, tx.tenant_keys(TenantId::PLATFORM)).await;
                    keys?;
                    if let Some(earlier) = earlier? {
                        return Ok((Some(earlier), Vec::new()));
                    }
                    tx.put(TenantId::PLATFORM, &dispatch, &belongs).await?;
                    Ok::<_, Error>((None, vec![event]))
                })
            })
            .await?;
        match earlier {
            None => Ok(None),
            // Only what may not be repeated stands in the way of an intent.
            Some(row) => match self.settle(&row, self.validated.digest)? {
                Some(reply) => Ok(Some(reply)),
                None => Err(Error::internal("an open outcome stood in the way of an intent")),
            },
        }
    }

    /// Names another attempt in the intent; the one before was refused before it ran.
    pub(crate) async fn intend_anew(
        &self,
        calls: &Calls,
        fence: Fence,
        before: DispatchId,
        dispatch: DispatchId,
    ) -> Result<(), Error> {
        let row = OutcomeRow { state: OutcomeState::Intended, dispatch: Some(dispatch), ..self.row(calls) };
        let event = calls.event(self, EventType::ToolInvocation, "tool.intent", Outcome::Success);
        let admitted = &self.validated.admitted;
        let (tenant, session) = (admitted.caller.tenant(), admitted.session.id);
        let belongs = DispatchRow { tenant, session, invocation: row.invocation.clone(), runtime: None };
        let row = Arc::new(row);
        let settled = calls
            .recorder()
            .record_for(tenant, move |tx| {
                let (row, belongs, event) = (Arc::clone(&row), belongs.clone(), event.clone());
                Box::pin(async move {
                    if aesp_session::write_intent(tx, fence, tenant, session, &row, true).await?.is_some() {
                        return Ok((true, Vec::new()));
                    }
                    tx.delete::<DispatchRow>(TenantId::PLATFORM, &before).await?;
                    tx.put(TenantId::PLATFORM, &dispatch, &belongs).await?;
                    Ok::<_, Error>((false, vec![event]))
                })
            })
            .await?;
        if settled {
            return Err(Error::new(ErrorCode::StateConflict, "the call was settled meanwhile"));
        }
        Ok(())
    }

    /// Starts the row of this call.
    pub(crate) fn row(&self, calls: &Calls) -> OutcomeRow {
        let contract = self.validated.contract.contract();
        let admitted = &self.validated.admitted;
        OutcomeRow {
            invocation: admitted.request.invocation.as_str().to_owned(),
            tool: contract.name().to_owned(),
            version: contract.version().to_string(),
            arguments_digest: self.validated.digest,
            state: OutcomeState::Intended,
            dispatch: None,
            permitted_until: None,
            written_at: calls.access().clock.now(),
            keep_until: admitted.session.outcomes_kept_until(),
        }
    }
}
