use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aesp_proto::{
    ConnectionId, DispatchId, Error, TenantId, Timestamp,
    v1::{HostFrame, ResultAck, host_frame::Frame},
};
use arc_swap::ArcSwap;
use prost::Message as _;
use ractor::ActorRef;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tonic::Status;

use crate::{PeerIdentity, actor::Message, offers::Offer, state::Phase, terms::Terms};

/// With so many bytes unsent a connection takes no further call.
pub(crate) const HIGH_WATER_BYTES: usize = 8 << 20;
/// Below so many it takes calls again.
pub(crate) const LOW_WATER_BYTES: usize = 2 << 20;
/// With so many frames unsent the Runtime does not read, and is cut off.
pub(crate) const MAX_BACKLOG_FRAMES: usize = 65_536;

/// What is on its way to the Runtime.
pub(crate) enum Outgoing {
    Frame(Box<HostFrame>, usize),
    End(Status),
}

/// How much is on its way and not yet taken by the transport.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) frames: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    /// Whether the actor waits to hear that there is room again.
    pub(crate) stalled: AtomicBool,
}

/// What the rest of the Host holds of one connection.
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    pub(crate) actor: ActorRef<Message>,
    pub(crate) outgoing: mpsc::UnboundedSender<Outgoing>,
    pub(crate) backlog: Arc<Backlog>,
    /// Dispatches given to the actor that have not left it again.
    pub(crate) load: AtomicU32,
    pub(crate) credits: AtomicU32,
    pub(crate) outstanding: AtomicU32,
    pub(crate) draining: AtomicBool,
    /// Whether it was asked to leave; it may still get calls.
    pub(crate) leaving: AtomicBool,
    pub(crate) closed: AtomicBool,
    pub(crate) streaming: AtomicBool,
    pub(crate) connected_at: Timestamp,
    pub(crate) started: Instant,
    pub(crate) peer: PeerIdentity,
    /// Set once the Runtime was admitted.
    pub(crate) serving: AtomicBool,
    /// Whether it has begun to fulfil something.
    pub(crate) offered: AtomicBool,
    /// Empty until the announcement was borne out.
    pub(crate) identity: OnceLock<Arc<str>>,
    pub(crate) terms: ArcSwap<Option<Terms>>,
    pub(crate) offers: ArcSwap<Vec<Offer>>,
}

impl Link {
    /// Puts a frame on its way. Never waits: what may be on its way is bounded by credits and by the backlog's limits.
    pub(crate) fn send(&self, frame: Frame) {
        let frame = HostFrame { frame: Some(frame), ..HostFrame::default() };
        let bytes = frame.encoded_len();
        self.backlog.frames.fetch_add(1, Ordering::Relaxed);
        self.backlog.bytes.fetch_add(bytes, Ordering::Relaxed);
        // A connection that is gone has no use for it.
        let _ = self.outgoing.send(Outgoing::Frame(Box::new(frame), bytes));
    }

    pub(crate) fn acknowledge(&self, dispatch: DispatchId) {
        self.send(Frame::Ack(ResultAck { dispatch_id: dispatch.as_bytes().to_vec() }));
    }

    /// Ends the stream after what was sent.
    pub(crate) fn finish(&self, error: Error) {
        let _ = self.outgoing.send(Outgoing::End(error.into()));
    }

    /// Gives the actor a message; one that has ended has no use for it.
    pub(crate) fn tell(&self, message: Message) -> bool {
        self.actor.send_message(message).is_ok()
    }

    pub(crate) fn is(&self, identity: &str) -> bool {
        self.identity.get().is_some_and(|own| **own == *identity)
    }

    pub(crate) fn runs(&self, runtime_id: &str) -> bool {
        (**self.terms.load()).as_ref().is_some_and(|terms| terms.registration.runtime_id == runtime_id)
    }

    pub(crate) fn serves(&self, tenant: TenantId) -> bool {
        (**self.terms.load()).as_ref().is_some_and(|terms| terms.tenants.contains(&tenant))
    }

    /// Returns what it fulfils for `tenant`, or for all its tenants.
    pub(crate) fn tools(&self, tenant: Option<TenantId>) -> Vec<String> {
        let offers = self.offers.load();
        let shown = offers.iter().filter(|offer| tenant.is_none_or(|tenant| tenant == offer.tenant));
        let mut tools: Vec<_> = shown.map(ToString::to_string).collect();
        tools.sort();
        tools.dedup();
        tools
    }

    pub(crate) fn state(&self) -> &'static str {
        let leaves = self.draining.load(Ordering::Relaxed) || self.leaving.load(Ordering::Relaxed);
        if leaves { "draining" } else { "serving" }
    }

    /// Tells whether it is worth nothing to look further: a call begins here at once, and the Runtime stays.
    pub(crate) fn takes_at_once(&self) -> bool {
        self.load.load(Ordering::Relaxed) < self.credits.load(Ordering::Relaxed)
            && !self.leaving.load(Ordering::Relaxed)
    }

    /// Publishes what changed in the state.
    pub(crate) fn publish(&self, phase: Phase, leaving: bool, outstanding: u32, credits: u32, left: u32) {
        if left > 0 {
            self.load.fetch_sub(left, Ordering::Relaxed);
        }
        self.outstanding.store(outstanding, Ordering::Relaxed);
        self.credits.store(credits, Ordering::Relaxed);
        if leaving {
            self.leaving.store(true, Ordering::Relaxed);
        }
        match phase {
            Phase::Draining => self.draining.store(true, Ordering::Release),
            Phase::Closed => self.closed.store(true, Ordering::Release),
            Phase::Fresh | Phase::Admitting | Phase::Serving => {}
        }
    }
}

/// Sends the actor its next tick. At most one is on its way.
#[derive(Default)]
pub(crate) struct Alarm(Option<(Instant, tokio::task::JoinHandle<()>)>);

impl Alarm {
    /// Sets the alarm to `at` unless it rings before; it is set again when it has rung.
    pub(crate) fn set(&mut self, at: Option<Instant>, actor: &ActorRef<Message>) {
        let Some(at) = at else { return self.cancel() };
        // Deadlines within a moment of each other share a tick.
        let at = at.max(Instant::now() + Duration::from_millis(1));
        if self.0.as_ref().is_some_and(|(set, _)| *set <= at) {
            return;
        }
        self.cancel();
        let actor = actor.clone();
        let ring = tokio::spawn(async move {
            sleep_until(at).await;
            // An actor that has ended needs no tick.
            drop(actor.send_message(Message::Tick));
        });
        self.0 = Some((at, ring));
    }

    pub(crate) fn rung(&mut self) {
        self.0 = None;
    }

    fn cancel(&mut self) {
        if let Some((_, ring)) = self.0.take() {
            ring.abort();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.cancel();
    }
}
