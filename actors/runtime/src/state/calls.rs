use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use aesp_proto::{
    DispatchId, SessionId, TenantId,
    v1::{
        CancelCall, FunctionCall, ResultStatus, StreamChunk, ToolCall, ToolResult,
        host_frame::Frame as HostFrame,
    },
};
use tokio::time::Instant;

use super::{Count, Effect, Phase, State};
use crate::{
    Dispatch, Failure, Lost, LostReason, Update,
    penalty::NOISE,
    queue::{Bounds, Queue, Ticket},
    terms::MAX_CREDITS,
};

/// How many ended dispatches are remembered, to tell a repeated result from an unknown one.
const REMEMBERED: usize = 4096;

/// The calls of one connection: those that wait, and those that the Runtime has.
pub(crate) struct Calls<R> {
    open: HashMap<DispatchId, Call<R>>,
    queue: Queue,
    /// INVARIANT: the number of calls in `open` that were sent; never above `credits` when one is sent.
    outstanding: u32,
    pub(super) credits: u32,
    pub(super) writable: bool,
    deadlines: BTreeSet<(Instant, DispatchId)>,
    ended: HashSet<DispatchId>,
    ended_order: VecDeque<DispatchId>,
    left: u32,
}

struct Call<R> {
    /// Nobody, once the caller has had its end; the Runtime still holds a credit.
    reply: Option<R>,
    tenant: TenantId,
    session: SessionId,
    name: Arc<str>,
    version: Arc<str>,
    development: bool,
    deadline: Instant,
    streaming: bool,
    next_chunk: u64,
    place: Place,
}

enum Place {
    Waits(Ticket, Box<Dispatch>),
    Sent,
}

impl<R> Calls<R> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            open: HashMap::new(),
            queue: Queue::new(bounds),
            outstanding: 0,
            credits: 0,
            writable: true,
            deadlines: BTreeSet::new(),
            ended: HashSet::new(),
            ended_order: VecDeque::new(),
            left: 0,
        }
    }

    pub(crate) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn credits(&self) -> u32 {
        self.credits
    }

    #[cfg(test)]
    pub(super) fn holds(&self, id: DispatchId) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn take_left(&mut self) -> u32 {
        std::mem::take(&mut self.left)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn can_send(&self) -> bool {
        self.writable && self.outstanding < self.credits
    }

    /// Ends a call for good: it leaves the connection.
    fn remove(&mut self, id: DispatchId) -> Option<Call<R>> {
        let call = self.open.remove(&id)?;
        self.left += 1;
        self.deadlines.remove(&(call.deadline, id));
        match &call.place {
            Place::Waits(ticket, _) => self.queue.remove(*ticket),
            Place::Sent => {
                self.outstanding -= 1;
                self.remember(id);
            }
        }
        Some(call)
    }

    fn remember(&mut self, id: DispatchId) {
        if self.ended.insert(id) {
            self.ended_order.push_back(id);
            if self.ended_order.len() > REMEMBERED
                && let Some(oldest) = self.ended_order.pop_front()
            {
                self.ended.remove(&oldest);
            }
        }
    }

    pub(super) fn lose_all(&mut self, effects: &mut Vec<Effect<R>>) {
        let ids: Vec<_> = self.open.keys().copied().collect();
        for id in ids {
            let Some(call) = self.remove(id) else { continue };
            let sent = matches!(call.place, Place::Sent);
            if sent {
                effects.push(Effect::Open(id));
            }
            if let Some(reply) = call.reply {
                effects.push(end(id, reply, lost(sent, LostReason::Disconnected, None)));
            }
        }
    }
}

fn lost(sent: bool, reason: LostReason, retry_after: Option<Duration>) -> Update {
    Update::Lost(Lost { sent, reason, retry_after })
}

fn end<R>(dispatch: DispatchId, reply: R, update: Update) -> Effect<R> {
    Effect::End { dispatch, reply, update }
}

impl<R> State<R> {
    pub(super) fn dispatch(&mut self, now: Instant, dispatch: Dispatch, reply: R) {
        let id = dispatch.id;
        let refusal = match self.phase {
            Phase::Fresh | Phase::Admitting | Phase::Closed => Some(LostReason::Disconnected),
            Phase::Draining => Some(LostReason::Draining),
            Phase::Serving if !self.offers.cover(&dispatch) => Some(LostReason::Revoked),
            Phase::Serving if dispatch.deadline <= now => Some(LostReason::DeadlineExceeded),
            // Ids are random; one that is open already was not minted for this attempt.
            Phase::Serving if self.calls.open.contains_key(&id) => Some(LostReason::Disconnected),
            Phase::Serving => self.withheld(&dispatch),
        };
        if let Some(reason) = refusal {
            self.calls.left += 1;
            self.effects.push(end(id, reply, lost(false, reason, None)));
            return;
        }
        let mut call = Call {
            reply: Some(reply),
            tenant: dispatch.tenant,
            session: dispatch.session,
            name: Arc::clone(&dispatch.name),
            version: Arc::clone(&dispatch.version),
            development: dispatch.development,
            deadline: dispatch.deadline,
            streaming: dispatch.streaming,
            next_chunk: 0,
            place: Place::Sent,
        };
        if self.calls.can_send() && self.calls.queue.len() == 0 {
            self.send_call(now, dispatch);
        } else {
            let queue = &mut self.calls.queue;
            match queue.push(dispatch.tenant, dispatch.priority, id, dispatch.args.len()) {
                Ok(ticket) => call.place = Place::Waits(ticket, Box::new(dispatch)),
                Err(crate::queue::Full) => {
                    let Some(reply) = call.reply else { return };
                    self.calls.left += 1;
                    self.effects.push(Effect::Count(Count::Refused));
                    let after = Some(self.limits.retry_after);
                    self.effects.push(end(id, reply, lost(false, LostReason::Overloaded, after)));
                    return;
                }
            }
        }
        self.calls.deadlines.insert((call.deadline, id));
        self.calls.open.insert(id, call);
    }

    fn send_call(&mut self, now: Instant, dispatch: Dispatch) {
        self.calls.outstanding += 1;
        let left = dispatch.deadline.saturating_duration_since(now).as_millis();
        let frame = ToolCall {
            invocation_id: dispatch.invocation_id,
            correlation_id: dispatch.correlation_id,
            call: Some(FunctionCall {
                name: dispatch.name.as_ref().to_owned(),
                args_json: dispatch.args,
                version: dispatch.version.as_ref().to_owned(),
            }),
            dispatch_id: dispatch.id.as_bytes().to_vec(),
            deadline_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
            streaming: dispatch.streaming,
            tenant_id: dispatch.tenant.to_string(),
            session_id: dispatch.session.to_string(),
            depth: dispatch.depth,
        };
        self.send(HostFrame::Call(frame));
    }

    /// Tells why this node may not send the call at this moment.
    ///
    /// INVARIANT R1: the last hop. What was permitted before rights changed here, at this node or another, is decided anew.
    fn withheld(&self, dispatch: &Dispatch) -> Option<LostReason> {
        if (self.lease)().is_zero() {
            return Some(LostReason::NoLease);
        }
        let applied = self.directory.rights(dispatch.tenant);
        let is_current = applied.is_some_and(|applied| dispatch.rights.cover(&applied));
        (!is_current).then_some(LostReason::Stale)
    }

    /// Sends what waits, as far as credits go.
    pub(super) fn pump(&mut self, now: Instant) {
        while self.phase == Phase::Serving && self.calls.can_send() {
            let Some(id) = self.calls.queue.pop() else { return };
            let withheld = match self.calls.open.get(&id) {
                Some(Call { place: Place::Waits(_, dispatch), .. }) => self.withheld(dispatch),
                _ => None,
            };
            if let Some(reason) = withheld {
                if let Some(Call { reply: Some(reply), .. }) = self.calls.remove(id) {
                    self.effects.push(end(id, reply, lost(false, reason, None)));
                }
                continue;
            }
            let Some(call) = self.calls.open.get_mut(&id) else { continue };
            if let Place::Waits(_, dispatch) = std::mem::replace(&mut call.place, Place::Sent) {
                self.send_call(now, *dispatch);
            }
        }
    }

    pub(super) fn result(&mut self, now: Instant, result: ToolResult) {
        let Ok(id) = DispatchId::from_slice(&result.dispatch_id) else { return self.garbage(now) };
        match self.calls.open.get(&id) {
            Some(call) if matches!(call.place, Place::Waits(..)) => return self.garbage(now),
            None if self.calls.ended.contains(&id) => {
                self.effects.push(Effect::Count(Count::Duplicate));
                return self.charge(now, NOISE);
            }
            None => {
                self.effects.push(Effect::Late(id, result));
                return self.charge(now, NOISE);
            }
            Some(_) => {}
        }
        let Some(call) = self.calls.remove(id) else { return };
        match call.reply {
            None => self.effects.push(Effect::Late(id, result)),
            Some(reply) => {
                let update = match self.unusable(&result) {
                    Some(failure) => Update::Failed(failure),
                    None => Update::Result(result),
                };
                if matches!(update, Update::Failed(_)) {
                    self.effects.push(Effect::Count(Count::Failed));
                }
                self.effects.push(end(id, reply, update));
            }
        }
        self.pump(now);
    }

    /// Tells what is wrong with the form of a result; its content is checked against the contract by whoever asked.
    fn unusable(&self, result: &ToolResult) -> Option<Failure> {
        let limit_bytes = self.limits.answer_bytes;
        let Some(answer) = &result.result else { return Some(Failure::Malformed) };
        let error_bytes = answer.error.as_ref().map_or(0, |error| error.message.len() + error.r#type.len());
        if answer.content_json.len() > limit_bytes || error_bytes > limit_bytes {
            return Some(Failure::TooLarge { limit_bytes });
        }
        match ResultStatus::try_from(answer.status) {
            Ok(ResultStatus::Success) if answer.error.is_none() => None,
            Ok(ResultStatus::Error) => None,
            _ => Some(Failure::Malformed),
        }
    }

    pub(super) fn chunk(&mut self, now: Instant, chunk: StreamChunk) {
        let Ok(id) = DispatchId::from_slice(&chunk.dispatch_id) else { return self.garbage(now) };
        let limit_bytes = self.limits.answer_bytes;
        let (got, is_final, bytes) = (chunk.chunk_id, chunk.is_final, chunk.payload.len());
        let Some(call) = self.calls.open.get_mut(&id).filter(|call| matches!(call.place, Place::Sent)) else {
            self.effects.push(Effect::Count(Count::Duplicate));
            return self.charge(now, NOISE);
        };
        if call.reply.is_none() {
            // What was on its way when the call was cancelled. The last one ends it, as a result does.
            if is_final {
                self.calls.remove(id);
                self.pump(now);
            }
            return;
        }
        let failure = if !call.streaming {
            Some(Failure::NotStreaming)
        } else if got != call.next_chunk {
            Some(Failure::ChunkOrder { expected: call.next_chunk, got })
        } else {
            (bytes > limit_bytes).then_some(Failure::TooLarge { limit_bytes })
        };
        if let Some(failure) = failure {
            self.fail(id, failure);
            return self.garbage(now);
        }
        call.next_chunk += 1;
        if !is_final {
            self.effects.push(Effect::Chunk(id, chunk));
            return;
        }
        if let Some(Call { reply: Some(reply), .. }) = self.calls.remove(id) {
            self.effects.push(end(id, reply, Update::Chunk(chunk)));
        }
        self.pump(now);
    }

    pub(super) fn overflow(&mut self, now: Instant, id: DispatchId) {
        if self.calls.open.get(&id).is_some_and(|call| call.reply.is_some()) {
            self.fail(id, Failure::SlowReader);
            self.pump(now);
        }
    }

    /// Ends a call for its caller and tells the Runtime to stop; the credit is its own until it answers.
    fn fail(&mut self, id: DispatchId, failure: Failure) {
        self.effects.push(Effect::Count(Count::Failed));
        self.stop(id, failure.to_string(), |_| Update::Failed(failure));
    }

    pub(super) fn cancel(&mut self, now: Instant, id: DispatchId, reason: String) {
        self.stop(id, reason, |sent| lost(sent, LostReason::Disconnected, None));
        self.pump(now);
    }

    pub(super) fn overdue(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.calls.deadlines.first()
            && at <= now
        {
            self.calls.deadlines.pop_first();
            self.effects.push(Effect::Count(Count::Overdue));
            let update = |sent| lost(sent, LostReason::DeadlineExceeded, None);
            self.stop(id, "the deadline has passed".to_owned(), update);
        }
        self.pump(now);
    }

    /// Stops what runs or waits on a right that was lost.
    pub(super) fn revoke(&mut self, now: Instant) {
        let offers = &self.offers;
        let granted = |call: &Call<R>| {
            offers.grants(call.tenant, call.session, &call.name, &call.version, call.development)
        };
        let lost_ids: Vec<_> = self
            .calls
            .open
            .iter()
            .filter(|(_, call)| call.reply.is_some() && !granted(call))
            .map(|(id, _)| *id)
            .collect();
        for id in lost_ids {
            let update = |sent| lost(sent, LostReason::Revoked, None);
            self.stop(id, "the right to it was revoked".to_owned(), update);
        }
        self.pump(now);
    }

    /// Gives back what waits.
    pub(super) fn requeue(&mut self, reason: LostReason) {
        while let Some(id) = self.calls.queue.pop() {
            if let Some(Call { reply: Some(reply), .. }) = self.calls.remove(id) {
                self.effects.push(end(id, reply, lost(false, reason, None)));
            }
        }
    }

    fn stop(&mut self, id: DispatchId, reason: String, update: impl FnOnce(bool) -> Update) {
        let Some(call) = self.calls.open.get_mut(&id) else { return };
        let Some(reply) = call.reply.take() else { return };
        let sent = matches!(call.place, Place::Sent);
        let deadline = call.deadline;
        self.calls.deadlines.remove(&(deadline, id));
        if sent {
            self.send(HostFrame::Cancel(CancelCall { dispatch_id: id.as_bytes().to_vec(), reason }));
        } else {
            self.calls.remove(id);
        }
        self.effects.push(end(id, reply, update(sent)));
    }

    pub(super) fn credits(&mut self, now: Instant, add: u32) {
        if add == 0 {
            return self.garbage(now);
        }
        self.calls.credits = self.calls.credits.saturating_add(add).min(MAX_CREDITS);
        self.pump(now);
    }
}
