//! One connection to one node: announced, then served until either side ends it.

mod held;
mod open;

use std::{sync::Arc, time::Duration};

use aesp_proto::{
    DispatchId, Error, ErrorCode,
    v1::{
        CancelCall, Draining, FulfillToolsResponse, Heartbeat, HostFrame, RegisterToolsResponse,
        RejectedTool, RuntimeFrame, ToolCall, host_frame, runtime_frame::Frame,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{debug, info, warn};

use self::held::HeldCalls;
use crate::{
    endpoint::Endpoint,
    failure::ToolFailure,
    retry::backoff,
    runtime::{
        lease::{Beat, Lease},
        serve,
        shared::{Shared, lock, same_tool},
    },
};

/// A link that is silent for so many heartbeats is given up.
const SILENT_HEARTBEATS: u32 = 6;
/// Or for so many leases, if that is longer: by then others own what the node owned.
const SILENT_LEASES: u32 = 3;
/// How long calls of a node in doubt wait for its answer: a lease, within these.
const HOLD: Duration = Duration::from_millis(100);
const HOLD_LONGEST: Duration = Duration::from_secs(1);
/// How long an older connection stays after the newer one offers the tools, so that every node hears of that first.
const OVERLAP: Duration = Duration::from_millis(250);
const REOFFER_BASE: Duration = Duration::from_secs(2);
const REOFFER_LONGEST: Duration = Duration::from_secs(60);

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was left on purpose, with nothing open.
    Left,
    /// It broke, or the Host ended it.
    Lost(Error),
}

/// What the Runtime's own loop hears of a connection that still serves.
#[derive(Debug)]
pub(crate) struct AskedToLeave {
    pub(crate) generation: u64,
    /// Why, as the Host says.
    pub(crate) reason: String,
    /// Cancelled when it may leave: the Runtime serves elsewhere, or there is no elsewhere.
    pub(crate) leave: CancellationToken,
}

/// The Host wants the Runtime to leave. It serves until it is told that it may.
struct Asked {
    reason: String,
    until: Option<Instant>,
}

pub(crate) struct Link {
    shared: Arc<Shared>,
    generation: u64,
    endpoint: Endpoint,
    outgoing: mpsc::Sender<RuntimeFrame>,
    incoming: Streaming<HostFrame>,
    lease: Lease,
    heartbeat: Duration,
    asked: Option<Asked>,
    leave: CancellationToken,
    leaving: Option<Leaving>,
    /// Older connections, which leave once this one offers the tools.
    succeeded: Vec<CancellationToken>,
    held: HeldCalls,
    rejected: u32,
    reoffer_at: Option<Instant>,
}

/// A connection that takes no new calls.
struct Leaving {
    /// The heartbeat that was sent after the word; once answered, no call is on its way any more.
    sequence: u64,
    answered: bool,
    until: Option<Instant>,
}

impl Link {
    /// Serves the connection until it ends.
    pub(crate) async fn serve(mut self, events: mpsc::UnboundedSender<AskedToLeave>) -> End {
        let end = self.run(&events).await;
        self.shared.leave(self.generation);
        let gone = ToolFailure::of_type(ToolFailure::TRANSPORT_ERROR, "the connection to the Host ended");
        self.shared.ledger().stop_streams(self.generation, &gone);
        self.shared.progress.send_replace(());
        end
    }

    async fn run(&mut self, events: &mpsc::UnboundedSender<AskedToLeave>) -> End {
        let mut beats = interval(self.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut progress = self.shared.progress.subscribe();
        let drain = self.shared.drain.clone();
        let may_leave = self.leave.clone();
        loop {
            if self.may_leave() {
                return End::Left;
            }
            let reoffer = self.reoffer_at;
            let leaving = self.leaving.is_some();
            let asked = self.asked.is_some();
            let (leave_by, held_until) = (self.leave_by(), self.held.until());
            tokio::select! {
                frame = self.incoming.message() => match frame {
                    Ok(Some(frame)) => {
                        if let Some(end) = self.take(frame, events) {
                            return end;
                        }
                    }
                    Ok(None) if leaving => return End::Left,
                    Ok(None) => return End::Lost(lost("the Host ended the connection")),
                    Err(status) => return End::Lost(Error::from_status(&status)),
                },
                _ = beats.tick() => {
                    let limit = (self.heartbeat * SILENT_HEARTBEATS).max(self.lease.length() * SILENT_LEASES);
                    if self.lease.silence(Instant::now()) > limit {
                        return End::Lost(lost("the Host is silent"));
                    }
                    self.ask();
                }
                () = at(reoffer) => {
                    self.reoffer_at = None;
                    let names = self.shared.status.borrow().rejected.keys().cloned().collect();
                    drop(self.outgoing.try_send(self.shared.fulfill(names)));
                }
                () = drain.cancelled(), if !leaving => {
                    let reason = lock(&self.shared.drain_reason).clone();
                    self.leave(reason, None);
                }
                () = may_leave.cancelled(), if asked && !leaving => {
                    if let Some(Asked { reason, until }) = self.asked.take() {
                        self.leave(reason, until);
                    }
                }
                _ = progress.changed(), if leaving => {}
                () = at(held_until) => self.release(Some(&doubted())),
                () = at(leave_by) => return End::Left,
            }
        }
    }

    fn take(&mut self, frame: HostFrame, events: &mpsc::UnboundedSender<AskedToLeave>) -> Option<End> {
        let left = frame.lease_remaining_ms.map(|left| Duration::from_millis(left.into()));
        let answers = match &frame.frame {
            Some(host_frame::Frame::Heartbeat(beat)) => self.lease.is_own(beat.sequence),
            _ => false,
        };
        if !answers && self.lease.hear(Instant::now(), left) {
            warn!(endpoint = %self.endpoint, "the node may have lost its lease, calls wait until it answers");
            self.ask();
        }
        match frame.frame? {
            host_frame::Frame::Call(call) => self.called(call, left),
            host_frame::Frame::Cancel(CancelCall { dispatch_id, reason }) => {
                let why =
                    ToolFailure::of_type(ToolFailure::CANCELLED, format!("the call was cancelled: {reason}"));
                if let Some(call) = self.held.remove(&dispatch_id) {
                    serve::accept(&self.shared, self.generation, call, Some(why));
                } else if let Ok(id) = DispatchId::from_slice(&dispatch_id) {
                    self.shared.ledger().stop(id, why);
                }
            }
            host_frame::Frame::Ack(ack) => {
                if let Ok(id) = DispatchId::from_slice(&ack.dispatch_id) {
                    self.shared.ledger().acknowledge(id);
                    self.shared.progress.send_replace(());
                }
            }
            host_frame::Frame::Heartbeat(beat) => {
                match self.lease.beat(Instant::now(), beat.sequence, left) {
                    Beat::Question => send(&self.outgoing, Frame::Heartbeat(beat)),
                    Beat::Answer => {
                        if let Some(leaving) = &mut self.leaving {
                            leaving.answered |= beat.sequence >= leaving.sequence;
                        }
                        if !self.lease.in_doubt() {
                            self.release(None);
                        }
                    }
                    Beat::Echo => {}
                }
            }
            host_frame::Frame::GoAway(go) => {
                info!(endpoint = %self.endpoint, reason = go.reason, grace_ms = go.grace_ms, "the host asks to leave");
                if self.leaving.is_none() {
                    let grace = Duration::from_millis(go.grace_ms.into());
                    let until = (go.grace_ms > 0).then(|| Instant::now() + grace);
                    self.asked = Some(Asked { reason: go.reason.clone(), until });
                }
                let (generation, leave) = (self.generation, self.leave.clone());
                drop(events.send(AskedToLeave { generation, reason: go.reason, leave }));
            }
            host_frame::Frame::Fulfilled(answer) => self.fulfilled(answer),
            host_frame::Frame::Error(refusal) => return Some(End::Lost(Error::from_details(refusal))),
            host_frame::Frame::Registered(answer) => self.registered(answer),
            host_frame::Frame::Announced(_) | host_frame::Frame::Credits(_) => {
                debug!("frame of the host needs no answer")
            }
        }
        None
    }

    /// Begins a call, unless the node is in doubt.
    fn called(&mut self, call: ToolCall, left: Option<Duration>) {
        if !self.lease.in_doubt() {
            return serve::accept(&self.shared, self.generation, call, None);
        }
        let (now, patience) = (Instant::now(), self.lease.length().clamp(HOLD, HOLD_LONGEST));
        // One that says itself that its lease is over needs no question.
        let refused = match left {
            Some(Duration::ZERO) => Some(call),
            _ => self.held.hold(now, patience, call).err(),
        };
        if let Some(call) = refused {
            serve::accept(&self.shared, self.generation, call, Some(doubted()));
        }
    }

    /// Begins what was held, or refuses it.
    fn release(&mut self, refusal: Option<&ToolFailure>) {
        for call in self.held.take(Instant::now()) {
            serve::accept(&self.shared, self.generation, call, refusal.cloned());
        }
    }

    fn fulfilled(&mut self, answer: FulfillToolsResponse) {
        let succeeded = std::mem::take(&mut self.succeeded);
        if !succeeded.is_empty() {
            self.shared.calls.spawn(async move {
                sleep(OVERLAP).await;
                succeeded.iter().for_each(CancellationToken::cancel);
            });
        }
        self.shared.status.send_modify(|status| {
            for name in answer.fulfilled {
                status.rejected.retain(|rejected, _| !same_tool(rejected, &name));
                status.fulfilled.insert(name);
            }
            for RejectedTool { name, reason } in answer.rejected {
                status.fulfilled.retain(|fulfilled| !same_tool(&name, fulfilled));
                if status.rejected.get(&name) != Some(&reason) {
                    warn!(tool = name, reason, "the host does not let this runtime fulfil a tool");
                }
                status.rejected.insert(name, reason);
            }
        });
        // An administrator may allow later what is refused now.
        if self.shared.status.borrow().rejected.is_empty() {
            self.rejected = 0;
        } else {
            self.rejected += 1;
            let pause = backoff(REOFFER_BASE, REOFFER_LONGEST, self.rejected, &self.shared.entropy);
            self.reoffer_at = Some(Instant::now() + pause);
        }
    }

    fn registered(&self, answer: RegisterToolsResponse) {
        self.shared.status.send_modify(|status| {
            for name in answer.registered {
                status.not_registered.remove(&name);
                status.registered.insert(name);
            }
            for RejectedTool { name, reason } in answer.rejected {
                warn!(tool = name, reason, "the host does not register a tool");
                status.registered.remove(&name);
                status.not_registered.insert(name, reason);
            }
        });
    }

    fn leave(&mut self, reason: String, until: Option<Instant>) {
        send(&self.outgoing, Frame::Draining(Draining { reason }));
        let sequence = self.ask();
        self.leaving = Some(Leaving { sequence, answered: false, until });
    }

    /// When the Host closes the connection of one that it wants to leave.
    fn leave_by(&self) -> Option<Instant> {
        let asked = self.asked.as_ref().and_then(|asked| asked.until);
        self.leaving.as_ref().map_or(asked, |leaving| leaving.until)
    }

    fn may_leave(&self) -> bool {
        let Some(leaving) = &self.leaving else { return false };
        leaving.answered && self.held.is_empty() && self.shared.ledger().open(self.generation) == 0
    }

    fn ask(&mut self) -> u64 {
        let sequence = self.lease.ask(Instant::now());
        let beat = Heartbeat { sequence, sent_at_ms: self.shared.clock.now().0 };
        send(&self.outgoing, Frame::Heartbeat(beat));
        sequence
    }
}

/// Sends what may be lost with the connection; never waits, because the reader of a link must go on reading.
fn send(outgoing: &mpsc::Sender<RuntimeFrame>, frame: Frame) {
    if outgoing.try_send(RuntimeFrame { frame: Some(frame) }).is_err() {
        debug!("a frame was dropped, the connection is busy or gone");
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn doubted() -> ToolFailure {
    let message = "the node may have lost its lease; the tool did not run";
    ToolFailure::of_type(ToolFailure::UNAVAILABLE, message)
}

fn lost(reason: &str) -> Error {
    Error::new(ErrorCode::TransportError, reason)
}
