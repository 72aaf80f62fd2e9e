use std::{sync::Arc, time::Duration};

use aesp_catalog::Effects;
use aesp_cluster::Fence;
use aesp_proto::{
    DispatchId, Error, ErrorCode,
    v1::{FunctionResult, ResultStatus, StreamChunk},
};
use aesp_runtime::{Attempt, Dispatch, Holder, Lost, LostReason, Priority, Rights, Update};
use bytes::Bytes;
use tokio::{sync::mpsc::OwnedPermit, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Calls,
    ending::{Ending, outcome_unknown},
    streamed::{Part, Parts, Streamed},
    validated::Permitted,
};

/// How often a call is given to another Runtime.
const MAX_ATTEMPTS: u32 = 3;
/// How often a call is permitted anew because rights changed before its turn came.
const MAX_RENEWALS: u32 = 32;
/// How long a call that lost its Runtime waits for one that connects again, within its deadline.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// When a call that no Runtime got may be made again.
const RETRY: Duration = Duration::from_millis(200);

/// A call being run by a Runtime, over all its attempts.
pub(crate) struct Running<'a> {
    pub(crate) calls: &'a Calls,
    pub(crate) permitted: &'a mut Permitted,
    pub(crate) cancel: CancellationToken,
    /// What its writes are fenced by.
    pub(crate) fence: Fence,
    pub(crate) parts: Option<Parts>,
    /// Of the current attempt; the first one is named in the intent.
    pub(crate) dispatch: DispatchId,
    /// The attempt that the intent names, if there is an intent.
    pub(crate) intended: Option<DispatchId>,
    pub(crate) attempts: u32,
    /// Whether a Runtime may have started it.
    pub(crate) sent: bool,
    /// The certificate identity of the Runtime that has the current attempt.
    pub(crate) holder: Option<Holder>,
    /// What was passed on of a stream.
    pub(crate) streamed: Streamed,
}

impl Running<'_> {
    /// Gives the call to Runtimes until one answers, the deadline passes, the caller cancels, or the right is gone.
    /// Returns the attempt too, to be acknowledged when the record is durable.
    pub(crate) async fn run(&mut self) -> (Ending, Option<Attempt>) {
        let mut renewals = 0;
        let mut wait_until = None;
        loop {
            // INVARIANT R1: what was cancelled, or whose session has ended, starts nothing.
            if self.cancel.is_cancelled() {
                let error = Error::new(ErrorCode::Cancelled, "the call was cancelled");
                return (self.ended(error), None);
            }
            // INVARIANT Z1, R1: nothing is dispatched on a permit older than the rights.
            if let Err(error) = self.permitted.recheck(self.calls).await {
                return (self.ended(error), None);
            }
            let order = self.order();
            let rights = order.rights;
            let attempt = match self.calls.runtimes().dispatch(order) {
                Ok(attempt) => attempt,
                // The Runtimes of a node that has gone are on their way to another.
                Err(aesp_runtime::Error::NoRuntime { .. })
                    if wait_until.is_some_and(|until| Instant::now() < until)
                        && !self.cancel.is_cancelled() =>
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
                Err(error) => {
                    self.attempts += 1;
                    return (self.ended(error.into()), None);
                }
            };
            self.attempts += 1;
            self.holder = self.calls.runtimes().holder(self.dispatch);
            let dispatch = self.dispatch;
            self.calls.working(dispatch, Arc::clone(&self.permitted.standing));
            let (ended, attempt) = self.attend(attempt).await;
            self.calls.worked(dispatch);
            match ended {
                Attended::Ended(ending) => return (ending, attempt),
                // An id that no Runtime has heard of is still the one that the intent names.
                Attended::Again if !self.sent => {}
                Attended::Again => self.dispatch = DispatchId::random(&self.calls.access().entropy),
                Attended::Anew => {
                    if let Err(error) = self.renew_intent().await {
                        return (self.ended(error), None);
                    }
                }
                Attended::Renew(error) if renewals >= MAX_RENEWALS => return (self.ended(error), None),
                Attended::Renew(_) => {
                    renewals += 1;
                    self.attempts -= 1;
                    if renewals > 1 {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    if let Err(error) = self.renew(rights).await {
                        return (self.ended(error), None);
                    }
                    continue;
                }
            }
            wait_until = Some(self.permitted.validated.deadline.min(Instant::now() + PATIENCE));
        }
    }

    /// Looks for rights newer than these: this node may know of them already, or another knew of them first.
    async fn renew(&self, rights: Rights) -> Result<(), Error> {
        let (views, tenant) = (self.calls.views(), self.permitted.validated.admitted.caller.tenant());
        if views.get(tenant).await?.rights() == rights {
            views.refresh(tenant).await?;
        }
        Ok(())
    }

    /// Takes another id for the next attempt. An intent names it first: who refused the old one may say so again later, and
    /// that must not settle a call that another Runtime runs by then.
    async fn renew_intent(&mut self) -> Result<(), Error> {
        let next = DispatchId::random(&self.calls.access().entropy);
        if let Some(before) = self.intended {
            Box::pin(self.permitted.intend_anew(self.calls, self.fence, before, next)).await?;
            self.intended = Some(next);
        }
        self.dispatch = next;
        Ok(())
    }

    fn order(&self) -> Dispatch {
        let validated = &self.permitted.validated;
        let (admitted, contract) = (&validated.admitted, validated.contract.contract());
        Dispatch {
            id: self.dispatch,
            tenant: admitted.caller.tenant(),
            session: admitted.session.id,
            invocation_id: admitted.request.invocation.as_str().to_owned(),
            correlation_id: admitted.request.correlation_id.clone(),
            name: Arc::from(contract.name()),
            version: Arc::from(contract.version().to_string()),
            args: admitted.request.arguments.clone(),
            deadline: validated.deadline,
            streaming: self.parts.is_some() && contract.supports_streaming(),
            depth: admitted.depth,
            priority: Priority::Normal,
            development: validated.contract.is_development(),
            rights: admitted.view.rights(),
        }
    }

    /// Waits on one attempt.
    async fn attend(&mut self, mut attempt: Attempt) -> (Attended, Option<Attempt>) {
        let tenant = self.permitted.validated.admitted.caller.tenant();
        let mut rights = match self.calls.views().subscribe(tenant).await {
            Ok(rights) => rights,
            Err(error) => {
                self.sent = true;
                return (Attended::Ended(self.ended(error.into())), None);
            }
        };
        let deadline = self.permitted.validated.deadline;
        // A part that waits for the reader; the Runtime is not listened to meanwhile.
        let mut waiting: Option<StreamChunk> = None;
        loop {
            let update = tokio::select! {
                update = attempt.next(), if waiting.is_none() => update,
                room = room(&self.parts), if waiting.is_some() => {
                    match (room, waiting.take()) {
                        (Some(room), Some(chunk)) => self.hand_over(room, chunk),
                        _ => {
                            attempt.cancel("the caller left the stream");
                            let error = Error::new(ErrorCode::Cancelled, "the caller left the stream");
                            return (Attended::Ended(self.ended(error)), None);
                        }
                    }
                    continue;
                }
                () = self.cancel.cancelled() => {
                    self.sent = true;
                    attempt.cancel("cancelled by the caller");
                    let error = Error::new(ErrorCode::Cancelled, "the call was cancelled");
                    return (Attended::Ended(self.ended(error)), None);
                }
                () = tokio::time::sleep_until(deadline) => {
                    self.sent = true;
                    attempt.cancel("deadline exceeded");
                    return (Attended::Ended(self.ended(deadline_exceeded())), None);
                }
                changed = rights.changed() => {
                    // INVARIANT R1: what runs on a lost right is cancelled, and its result withheld.
                    let rechecked = match changed {
                        Ok(()) => self.permitted.recheck(self.calls).await.map(|_| ()),
                        Err(_) => Err(Error::new(ErrorCode::ServiceUnavailable, "the tenant's rights can't be read")),
                    };
                    if let Err(error) = rechecked {
                        self.sent = true;
                        attempt.cancel("the right to call was revoked");
                        return (Attended::Ended(self.ended(error)), None);
                    }
                    continue;
                }
            };
            match update {
                // What has streamed has run, whatever its Runtime says.
                Some(Update::Result(result)) if result.not_run && self.streamed.count() == 0 => {
                    attempt.acknowledge();
                    let refused = Lost { sent: false, reason: LostReason::Unreachable, retry_after: None };
                    return match self.lost(refused) {
                        Attended::Again => (Attended::Anew, None),
                        other => (other, None),
                    };
                }
                Some(Update::Result(result)) => {
                    self.sent = true;
                    let ending = self.check(result.result.unwrap_or_default());
                    return (Attended::Ended(ending), Some(attempt));
                }
                Some(Update::Chunk(chunk)) => {
                    self.sent = true;
                    match self.check_part(chunk).await {
                        Next::Ended(ending) => return (Attended::Ended(ending), Some(attempt)),
                        Next::PassOn(chunk) => waiting = Some(chunk),
                    }
                }
                Some(Update::Failed(failure)) => {
                    self.sent = true;
                    return (Attended::Ended(self.ended(failure.into())), Some(attempt));
                }
                Some(Update::Lost(lost)) => return (self.lost(lost), None),
                None => {
                    self.sent = true;
                    return (
                        self.lost(Lost { sent: true, reason: LostReason::Disconnected, retry_after: None }),
                        None,
                    );
                }
            }
        }
    }

    /// Checks a result against the contract. A Runtime that answers off schema has failed the call.
    fn check(&self, result: FunctionResult) -> Ending {
        if result.status() == ResultStatus::Error || result.error.is_some() {
            return Ending::Answered(FunctionResult { content_json: Bytes::new(), ..result });
        }
        let contract = &self.permitted.validated.contract;
        match contract.check_result(&result.content_json) {
            Ok(_) => Ending::Answered(result),
            Err(error) => {
                let error =
                    Error::new(ErrorCode::SchemaViolation, "the tool's result does not satisfy its contract")
                        .remedy("report it to the owner of the tool")
                        .because(error);
                self.ended(error)
            }
        }
    }

    /// Checks a part of a stream. The last one ends the call, and waits for the record with it.
    async fn check_part(&mut self, chunk: StreamChunk) -> Next {
        let contract = &self.permitted.validated.contract;
        let name = contract.contract().name().to_owned();
        if let Some(error) = chunk.error {
            return Next::Ended(Ending::Answered(FunctionResult {
                name,
                status: ResultStatus::Error.into(),
                error: Some(error),
                ..FunctionResult::default()
            }));
        }
        // The last one may be no more than the end.
        let empty_end = chunk.is_final && chunk.payload.is_empty();
        if !empty_end && let Err(error) = contract.check_chunk(&chunk.payload) {
            let error =
                Error::new(ErrorCode::SchemaViolation, "a part of the stream does not satisfy the contract")
                    .remedy("report it to the owner of the tool")
                    .because(error);
            return Next::Ended(self.ended(error));
        }
        if chunk.is_final {
            if !empty_end {
                self.streamed.end(chunk);
            }
            return Next::Ended(Ending::Answered(FunctionResult {
                name,
                status: ResultStatus::Success.into(),
                content_json: Bytes::from(format!("{{\"chunks\":{}}}", self.streamed.count())),
                ..FunctionResult::default()
            }));
        }
        // INVARIANT: the opening record is durable before the caller sees anything.
        if let Err(error) = self.open().await {
            return Next::Ended(self.ended(error));
        }
        match self.permitted.recheck(self.calls).await {
            Ok(_) => Next::PassOn(chunk),
            Err(error) => Next::Ended(self.ended(error)),
        }
    }

    fn hand_over(&mut self, room: OwnedPermit<Part>, chunk: StreamChunk) {
        self.streamed.add(&chunk);
        let view = Arc::clone(&self.permitted.validated.admitted.view);
        room.send(Part { chunk, view, standing: Arc::clone(&self.permitted.standing) });
    }

    /// Decides what a lost Runtime means: another attempt where that can't do harm, or an end.
    fn lost(&mut self, lost: Lost) -> Attended {
        self.sent |= lost.sent;
        let effects = self.permitted.validated.contract.contract().effects();
        let harmless = !lost.sent || (effects != Effects::NonIdempotent && self.streamed.count() == 0);
        let time_left = Instant::now() < self.permitted.validated.deadline;
        let elsewhere = match lost.reason {
            LostReason::Disconnected
            | LostReason::Draining
            | LostReason::NoLease
            | LostReason::Unreachable => true,
            LostReason::Overloaded
            | LostReason::DeadlineExceeded
            | LostReason::Revoked
            | LostReason::Stale => false,
        };
        if harmless && elsewhere && time_left && self.attempts < MAX_ATTEMPTS {
            return Attended::Again;
        }
        let mut error = match lost.reason {
            LostReason::DeadlineExceeded => deadline_exceeded(),
            LostReason::Revoked => {
                Error::new(ErrorCode::AuthorizationDenied, "the right to call was revoked")
            }
            LostReason::Overloaded => {
                Error::new(ErrorCode::ResourceUnavailable, "the tool's Runtimes are at their limit")
            }
            LostReason::Disconnected | LostReason::Draining => {
                Error::new(ErrorCode::TransportError, "the Runtime was lost during the call")
            }
            LostReason::Unreachable => Error::new(
                ErrorCode::ResourceUnavailable,
                "no Runtime that fulfils the tool could be reached",
            )
            .retry_after(RETRY),
            LostReason::Stale => Error::new(
                ErrorCode::ServiceUnavailable,
                "rights change faster than the call can be permitted",
            )
            .retry_after(RETRY),
            LostReason::NoLease => {
                Error::new(ErrorCode::ServiceUnavailable, "the node may not act at the moment")
                    .retry_after(RETRY)
            }
        };
        if let Some(after) = lost.retry_after {
            error = error.retry_after(after);
        }
        if lost.reason == LostReason::Stale && time_left {
            return Attended::Renew(error);
        }
        Attended::Ended(self.ended(error))
    }

    /// Decides what an error means for a repeat.
    ///
    /// INVARIANT I1: what may have run and is not idempotent is never run again.
    fn ended(&self, error: Error) -> Ending {
        let effects = self.permitted.validated.contract.contract().effects();
        if !self.sent || effects != Effects::NonIdempotent {
            return Ending::Refused(error);
        }
        match error.code() {
            // It answered, so it ran; what it answered can't be used.
            ErrorCode::SchemaViolation => Ending::Failed(error),
            ErrorCode::Cancelled | ErrorCode::AuthorizationDenied | ErrorCode::SessionInvalid => {
                Ending::Unknown(error)
            }
            _ => Ending::Unknown(outcome_unknown(error.message())),
        }
    }
}

/// What a part of a stream leads to.
enum Next {
    PassOn(StreamChunk),
    Ended(Ending),
}

/// Waits until the reader takes another part; nothing if it has gone.
async fn room(parts: &Option<Parts>) -> Option<OwnedPermit<Part>> {
    parts.clone()?.reserve_owned().await.ok()
}

enum Attended {
    /// As `Again`, under another id: the Runtime remembers that it refused this one.
    Anew,
    Ended(Ending),
    /// No Runtime answered, and another may.
    Again,
    /// No Runtime got it, because the permit is older than rights that are in force; what to say if that does not end.
    Renew(Error),
}

fn deadline_exceeded() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "the tool did not answer in time")
        .remedy("allow more time with timeout_ms, up to the contract's own limit")
}
