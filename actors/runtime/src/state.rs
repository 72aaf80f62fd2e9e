//! What one connection does about whatever happens to it. No I/O, clock or randomness.

mod calls;
mod effect;
mod frames;

use std::{sync::Arc, time::Duration};

use aesp_proto::{
    ConnectionId, Error, ErrorCode,
    v1::{
        AnnounceRuntimeResponse, CapabilityUpdate, ContractReference, EnterpriseError, GoAway, Heartbeat,
        host_frame::Frame as HostFrame, runtime_frame::Frame,
    },
};
use tokio::time::Instant;

use self::calls::Calls;
pub(crate) use self::effect::{Count, Effect, Event, Farewell, Note};
use crate::{
    Directory, LostReason, PeerIdentity, RemainingLease,
    lease::millis,
    offers::{Change, Offers},
    penalty::{GARBAGE, NOISE, Penalty},
    queue::Bounds,
    terms::{FEATURES, Terms, VERSION},
};

/// After so many silent heartbeats a Runtime counts as lost.
const SILENT_HEARTBEATS: u32 = 3;
/// So many heartbeats a Runtime sends within a lease, so that one which is late raises no doubt.
const BEATS_IN_LEASE: u32 = 4;
/// Marks the heartbeats that the Host starts, so that their answers are not answered.
const PROBE: u64 = 1 << 63;

/// What a connection is bound by.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) announce: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) lease: Duration,
    pub(crate) queue: Bounds,
    pub(crate) answer_bytes: usize,
    pub(crate) penalty: u32,
    pub(crate) penalty_leak: u32,
    pub(crate) retry_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for the announcement.
    Fresh,
    /// Announced; the quotas are asked.
    Admitting,
    Serving,
    /// Finishes what it has.
    Draining,
    Closed,
}

/// One connection. `R` stands for the caller of a dispatch.
pub(crate) struct State<R> {
    id: ConnectionId,
    peer: PeerIdentity,
    directory: Arc<dyn Directory>,
    lease: RemainingLease,
    limits: Limits,
    phase: Phase,
    terms: Option<Terms>,
    offers: Offers,
    calls: Calls<R>,
    penalty: Penalty,
    started: Instant,
    heard: Instant,
    probes: u64,
    leave_by: Option<Instant>,
    /// Until when one that was asked to leave gets calls.
    serve_until: Option<Instant>,
    /// Updates whose time has not come, the next one first.
    planned: Vec<(Instant, CapabilityUpdate)>,
    effects: Vec<Effect<R>>,
}

impl<R> State<R> {
    pub(crate) fn new(
        id: ConnectionId,
        peer: PeerIdentity,
        directory: Arc<dyn Directory>,
        lease: RemainingLease,
        limits: Limits,
        now: Instant,
    ) -> Self {
        Self {
            id,
            peer,
            directory,
            lease,
            phase: Phase::Fresh,
            terms: None,
            offers: Offers::default(),
            calls: Calls::new(limits.queue),
            penalty: Penalty::new(limits.penalty, limits.penalty_leak, now),
            limits,
            started: now,
            heard: now,
            probes: 0,
            leave_by: None,
            serve_until: None,
            planned: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Tells whether the Runtime was asked to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leave_by.is_some()
    }

    pub(crate) fn terms(&self) -> Option<&Terms> {
        self.terms.as_ref()
    }

    pub(crate) fn offers(&self) -> &Offers {
        &self.offers
    }

    pub(crate) fn calls(&self) -> &Calls<R> {
        &self.calls
    }

    /// Returns how many calls left since this was asked last.
    pub(crate) fn take_left(&mut self) -> u32 {
        self.calls.take_left()
    }

    /// Applies one event at `now`.
    pub(crate) fn step(&mut self, now: Instant, event: Event<R>) -> Vec<Effect<R>> {
        match event {
            Event::Frame(frame) => self.frame(now, frame),
            Event::Planned(at, update) => self.plan(now, at, update),
            Event::Garbage => self.garbage(now),
            Event::Dispatch(dispatch, reply) => self.dispatch(now, *dispatch, reply),
            Event::Cancel(dispatch, reason) => self.cancel(now, dispatch, reason),
            Event::Overflow(dispatch) => self.overflow(now, dispatch),
            Event::Writable(writable) => {
                self.calls.writable = writable;
                self.pump(now);
            }
            Event::Tick => self.tick(now),
            Event::Admitted(Ok(())) => self.admitted(),
            Event::Admitted(Err(error)) => self.refuse(error),
            Event::Recheck => self.recheck(now),
            Event::Drain(farewell) => self.go_away(now, farewell),
            Event::Close(error) => self.close(error),
            Event::Disconnected => self.end(),
        }
        std::mem::take(&mut self.effects)
    }

    /// Returns when the next [`Event::Tick`] is due.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let beat = match self.phase {
            Phase::Closed => return None,
            Phase::Fresh | Phase::Admitting => self.started + self.limits.announce,
            Phase::Serving | Phase::Draining => self.next_beat(),
        };
        [Some(beat), self.leave_by, self.serve_until, self.next_planned(), self.calls.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the silence is long enough to ask, or to give up.
    fn next_beat(&self) -> Instant {
        let asked = u32::try_from(self.probes & !PROBE).unwrap_or(SILENT_HEARTBEATS);
        self.heard + self.limits.heartbeat * (asked + 1).min(SILENT_HEARTBEATS)
    }

    fn frame(&mut self, now: Instant, frame: Frame) {
        self.heard = now;
        self.probes = 0;
        match (self.phase, frame) {
            (Phase::Closed, _) => {}
            (Phase::Fresh, Frame::Announce(announce)) => {
                match Terms::agree(announce, &self.peer, &*self.directory) {
                    Ok(terms) => {
                        self.effects.push(Effect::Admit(terms.tenants.clone()));
                        self.terms = Some(terms);
                        self.phase = Phase::Admitting;
                    }
                    Err(error) => self.refuse(error),
                }
            }
            (Phase::Fresh | Phase::Admitting, _) => {
                self.refuse(Error::invalid(
                    "a Runtime announces itself first, once, and waits for the answer",
                ));
            }
            (_, Frame::Announce(_)) => self.garbage(now),
            (_, Frame::Fulfill(wishes)) => self.fulfil(now, wishes),
            (_, Frame::Register(tools)) => self.register(now, tools),
            (_, Frame::Result(result)) => self.result(now, result),
            (_, Frame::Chunk(chunk)) => self.chunk(now, chunk),
            (_, Frame::Credits(credits)) => self.credits(now, credits.add),
            (_, Frame::Heartbeat(beat)) => self.heartbeat(now, beat),
            (_, Frame::CapabilityUpdate(update)) => self.capabilities(now, update),
            (_, Frame::Draining(_)) => self.draining(),
            (_, Frame::Report(report)) => self.report(now, &report),
        }
    }

    fn admitted(&mut self) {
        let (Phase::Admitting, Some(terms)) = (self.phase, &self.terms) else { return };
        // The registration may have changed while the quotas were asked.
        let terms = match terms.renew(&*self.directory) {
            Ok(terms) => terms,
            Err(error) => return self.refuse(error),
        };
        let mut available: Vec<ContractReference> =
            terms.tenants.iter().flat_map(|tenant| self.directory.contracts(*tenant)).collect();
        available.retain(|contract| terms.registration.allows_contract(&contract.name));
        available.sort_by(|a, b| (&a.name, &a.version, &a.digest).cmp(&(&b.name, &b.version, &b.digest)));
        available.dedup();
        let response = AnnounceRuntimeResponse {
            connection_id: self.id.to_string(),
            available_contracts: available,
            correlation_id: self.id.to_string(),
            negotiated_level: terms.level.into(),
            enabled_features: terms.features.clone(),
            negotiated_version: VERSION.to_owned(),
            available_features: FEATURES.map(str::to_owned).to_vec(),
            lease_ms: millis(self.limits.lease),
            heartbeat_ms: millis(self.limits.heartbeat.min(self.limits.lease / BEATS_IN_LEASE)),
            ..AnnounceRuntimeResponse::default()
        };
        self.calls.credits = terms.credits;
        self.terms = Some(terms);
        self.phase = Phase::Serving;
        self.effects.push(Effect::Serving);
        self.send(HostFrame::Announced(response));
    }

    fn tick(&mut self, now: Instant) {
        match self.phase {
            Phase::Closed => return,
            Phase::Fresh | Phase::Admitting => {
                if now >= self.started + self.limits.announce {
                    self.refuse(Error::new(
                        ErrorCode::DeadlineExceeded,
                        "the Runtime did not announce itself in time",
                    ));
                }
                return;
            }
            Phase::Serving | Phase::Draining => {}
        }
        if now >= self.heard + self.limits.heartbeat * SILENT_HEARTBEATS {
            self.close(Error::new(
                ErrorCode::DeadlineExceeded,
                "the Runtime was silent for three heartbeats",
            ));
            return;
        }
        if self.leave_by.is_some_and(|until| now >= until) {
            self.close(Error::new(ErrorCode::ServiceUnavailable, "the Host asked the Runtime to leave"));
            return;
        }
        if self.serve_until.is_some_and(|until| now >= until) {
            self.draining();
        }
        if now >= self.next_beat() {
            self.probes += 1;
            self.send(HostFrame::Heartbeat(Heartbeat { sequence: PROBE | self.probes, sent_at_ms: 0 }));
        }
        self.come_true(now);
        self.overdue(now);
    }

    fn heartbeat(&mut self, now: Instant, beat: Heartbeat) {
        if beat.sequence & PROBE == 0 {
            self.send(HostFrame::Heartbeat(beat));
        }
        self.charge(now, NOISE);
    }

    /// The Runtime drains: it gets no new call, and what waits for it goes elsewhere.
    fn draining(&mut self) {
        self.serve_until = None;
        if self.phase == Phase::Serving {
            self.phase = Phase::Draining;
            self.unoffer();
            self.requeue(LostReason::Draining);
        }
    }

    fn go_away(&mut self, now: Instant, farewell: Farewell) {
        let Farewell { reason, grace, serve } = farewell;
        if !matches!(self.phase, Phase::Serving | Phase::Draining) {
            self.refuse(Error::new(ErrorCode::ServiceUnavailable, "this node takes no Runtime connections"));
            return;
        }
        self.send(HostFrame::GoAway(GoAway { reason, grace_ms: millis(grace) }));
        let sooner = |before: Option<Instant>, until| Some(before.map_or(until, |before| before.min(until)));
        self.leave_by = sooner(self.leave_by, now + grace);
        // It serves until it is connected elsewhere, so that its tools are never without a Runtime.
        if serve && self.phase == Phase::Serving {
            self.serve_until = sooner(self.serve_until, now + grace / 2);
        } else {
            self.draining();
        }
    }

    /// Lets go of every right that the directory no longer bears out.
    fn recheck(&mut self, now: Instant) {
        let Some(terms) = &self.terms else { return };
        if self.phase == Phase::Closed {
            return;
        }
        match terms.renew(&*self.directory) {
            Ok(terms) => self.terms = Some(terms),
            Err(error) => return self.close(error),
        }
        if self.phase == Phase::Serving {
            self.settle_offers();
            self.revoke(now);
        }
    }

    fn settle_offers(&mut self) {
        let Some(terms) = &self.terms else { return };
        let change = self.offers.settle(terms, &*self.directory);
        self.changed(change);
    }

    fn unoffer(&mut self) {
        let change = self.offers.clear();
        self.changed(change);
    }

    fn changed(&mut self, change: Change) {
        if change != Change::default() {
            self.effects.push(Effect::Offers(change));
        }
    }

    /// Counts a frame that makes no sense.
    fn garbage(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        self.effects.push(Effect::Count(Count::Violation));
        self.charge(now, GARBAGE);
    }

    fn charge(&mut self, now: Instant, points: u32) {
        if self.phase != Phase::Closed && self.penalty.charge(now, points) {
            self.close(Error::new(
                ErrorCode::SuspiciousActivity,
                "too many frames that violate the protocol",
            ));
        }
    }

    /// Ends a connection that never served.
    fn refuse(&mut self, error: Error) {
        if matches!(self.phase, Phase::Fresh | Phase::Admitting) {
            self.effects.push(Effect::Note(Note::Refused(error.code(), error.message().to_owned())));
        }
        self.close(error);
    }

    fn close(&mut self, error: Error) {
        if self.phase == Phase::Closed {
            return;
        }
        let details: EnterpriseError = error.to_details();
        self.send(HostFrame::Error(details));
        self.end();
        self.effects.push(Effect::Close(error));
    }

    fn end(&mut self) {
        if self.phase == Phase::Closed {
            return;
        }
        self.unoffer();
        self.phase = Phase::Closed;
        self.calls.lose_all(&mut self.effects);
    }

    fn send(&mut self, frame: HostFrame) {
        self.effects.push(Effect::Send(frame));
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
