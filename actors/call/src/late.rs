use std::sync::OnceLock;

use aesp_audit::Event;
use aesp_proto::{
    DispatchId, Error, TenantId,
    v1::{EventType, FunctionResult, Outcome as EventOutcome, ToolResult},
};
use aesp_runtime::{LateResults, Settled as LateSettled};
use aesp_session::{Outcome, OutcomeRow, OutcomeState, Payload, Settled};
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tracing::warn;

use crate::{Calls, calls::DispatchRow};

/// Settles calls whose outcome is unknown from what Runtimes tell after the fact. Made before the pipeline, which needs the
/// Runtimes, which need this.
#[derive(Debug, Default)]
pub struct Late(OnceLock<Calls>);

impl Late {
    /// Connects the pipeline.
    pub fn connect(&self, calls: Calls) {
        // Connected once, by the wiring.
        let _ = self.0.set(calls);
    }
}

#[async_trait]
impl LateResults for Late {
    async fn settle(&self, identity: &str, dispatch: DispatchId, result: ToolResult) -> LateSettled {
        let Some(calls) = self.0.get() else { return LateSettled::Later };
        let result = (!result.not_run).then(|| result.result.unwrap_or_default());
        settled(dispatch, calls.settle(identity, dispatch, result).await)
    }

    async fn never_received(&self, identity: &str, dispatch: DispatchId) -> LateSettled {
        let Some(calls) = self.0.get() else { return LateSettled::Later };
        settled(dispatch, calls.settle(identity, dispatch, None).await)
    }
}

fn settled(dispatch: DispatchId, settled: Result<LateSettled, Error>) -> LateSettled {
    settled.unwrap_or_else(|error| {
        warn!(%dispatch, %error, "what a runtime told after the fact is not settled");
        LateSettled::Later
    })
}

impl Calls {
    /// Settles the call of a dispatch by its late result, or by the report that it was never received, if this node owns its
    /// session. No connection has the dispatch any more, so it is decided here whether the Runtime with this certificate
    /// identity may.
    async fn settle(
        &self,
        identity: &str,
        dispatch: DispatchId,
        result: Option<FunctionResult>,
    ) -> Result<LateSettled, Error> {
        let found = self.store().run(move |tx| {
            Box::pin(
                async move { Ok::<_, Error>(tx.get::<DispatchRow>(TenantId::PLATFORM, &dispatch).await?) },
            )
        });
        let Some(belongs) = found.await? else { return Ok(LateSettled::Unwanted) };
        let (tenant, session) = (belongs.tenant, belongs.session);
        // Asked first: only the owner knows what is about to be recorded.
        let fence = match self.shards().fence(session.as_bytes()) {
            Ok(fence) => fence,
            Err(aesp_cluster::Error::NotOwner { owner: Some(owner), .. }) if owner != self.shards().own() => {
                return Ok(LateSettled::Elsewhere(owner));
            }
            // Nobody's yet, or about to leave this node.
            Err(aesp_cluster::Error::NotOwner { .. }) => return Ok(LateSettled::Later),
        };
        let Some(row) = self.recorded_outcome(tenant, session, &belongs.invocation).await? else {
            return Ok(LateSettled::Unwanted);
        };
        let open = matches!(row.state, OutcomeState::Intended | OutcomeState::Unknown);
        if !open || row.dispatch != Some(dispatch) {
            return Ok(LateSettled::Unwanted);
        }
        // After a crash nobody knows which Runtime had it; then it must be one that may run the tool for the tenant.
        let may = match &belongs.runtime {
            Some(runtime) => runtime == identity,
            None => self.views().registrations().may_fulfil(identity, tenant, &row.tool),
        };
        if !may {
            warn!(%dispatch, runtime = identity, "a Runtime tried to settle a call that was not its own");
            let event = self.settlement(&belongs, &row, EventOutcome::Denied, "another Runtime had the call");
            self.recorder().append(vec![event]).await?;
            return Ok(LateSettled::Unwanted);
        }
        let (settled, payload, digest) = match &result {
            Some(result) => self.checked(tenant, &row.tool, &row.version, result).await?,
            None => (Settled::Cancelled, Payload::default(), None),
        };
        let reason = match &result {
            Some(_) => "the Runtime delivered the result after the fact",
            None => "the Runtime never ran the call",
        };
        let mut event = self.settlement(&belongs, &row, EventOutcome::Success, reason);
        event.details.result = digest;
        let outcome = Outcome { settled, payload, event: Some(event.id) };
        let now = self.access().clock.now();
        self.recorder()
            .record_for(tenant, move |tx| {
                let (belongs, outcome, event) = (belongs.clone(), outcome.clone(), event.clone());
                Box::pin(async move {
                    let at = (tenant, session);
                    aesp_session::resolve(tx, fence, at, &belongs.invocation, outcome, now).await?;
                    tx.delete::<DispatchRow>(TenantId::PLATFORM, &dispatch).await?;
                    Ok::<_, Error>((LateSettled::Recorded, vec![event]))
                })
            })
            .await
    }

    /// Starts the record of a settlement.
    fn settlement(
        &self,
        belongs: &DispatchRow,
        row: &OutcomeRow,
        outcome: EventOutcome,
        reason: &str,
    ) -> Event {
        let (entropy, kind) = (&self.access().entropy, EventType::ToolInvocation);
        let mut event = Event::new(entropy, belongs.tenant, kind, "tool.settle", outcome);
        event.session = Some(belongs.session);
        event.details.resource = format!("tool:{}@{}", row.tool, row.version);
        event.details.invocation_id.clone_from(&belongs.invocation);
        event.details.reason = reason.to_owned();
        event
    }

    /// Checks a late result as a timely one is checked; one off schema counts as a failure.
    async fn checked(
        &self,
        tenant: TenantId,
        tool: &str,
        version: &str,
        result: &FunctionResult,
    ) -> Result<(Settled, Payload, Option<Bytes>), Error> {
        let view = self.views().get(tenant).await?;
        let contract = view.catalog.find(tool, Some(version));
        let succeeded = result.error.is_none()
            && contract.is_some_and(|contract| contract.check_result(&result.content_json).is_ok());
        let kept = if succeeded {
            result.clone()
        } else {
            FunctionResult {
                name: tool.to_owned(),
                content_json: Bytes::new(),
                status: aesp_proto::v1::ResultStatus::Error.into(),
                error: result.error.clone().or_else(|| {
                    Some(aesp_proto::v1::ToolError {
                        message: "the late result does not satisfy the contract".into(),
                        r#type: "SCHEMA_VIOLATION".into(),
                    })
                }),
            }
        };
        let settled = if succeeded { Settled::Succeeded } else { Settled::Failed };
        let payload = Payload::of(Bytes::from(kept.encode_to_vec()));
        Ok((settled, payload, Some(result.content_json.clone())))
    }
}
