use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use aesp_proto::{
    ConnectionId, DispatchId, Error, ErrorCode, TenantId,
    v1::{RuntimeFrame, ToolResult, host_frame::Frame as HostFrame, runtime_frame::Frame},
};
use arc_swap::ArcSwap;
use futures::Stream;
use prost::Message as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::Status;

use crate::{
    Dispatch, Lost, LostReason, PeerIdentity, RuntimeSlot, Update,
    attempt::Reply,
    chunks::ChunkSender,
    cluster, late,
    link::{Alarm, Backlog, HIGH_WATER_BYTES, LOW_WATER_BYTES, Link, MAX_BACKLOG_FRAMES, Outgoing},
    offers::Change,
    presence::Presence,
    read, record,
    shared::Shared,
    state::{Count, Effect, Event, Farewell, Phase, State},
};

/// How long the tenants' quotas may take to answer.
const ADMISSION: Duration = Duration::from_secs(5);
/// How many kB of late results of one connection may wait to be settled; further ones are delivered again after a reconnect.
const LATE_KB: u32 = 32 << 10;
/// What the smallest result counts.
const LATE_LEAST_KB: u32 = 32;

pub(crate) enum Message {
    /// What arrived; the permit makes room for more when it is dropped.
    Frames(Vec<RuntimeFrame>, OwnedSemaphorePermit),
    /// Nothing more arrives; with the reason if it broke.
    Broken(Option<Status>),
    Dispatch(Box<Dispatch>, Untouched),
    Cancel(DispatchId, String),
    Tick,
    Writable,
    /// The transport has gone.
    Disconnected,
    Admitted(Result<RuntimeSlot, Error>),
    Recheck(oneshot::Sender<()>),
    Drain(Farewell),
    Close(Error, oneshot::Sender<()>),
}

/// A reply on its way to the actor. If it never gets there, nothing was sent to the Runtime, and the caller hears so.
pub(crate) struct Untouched(Option<Reply>);

impl Untouched {
    pub(crate) fn new(reply: Reply) -> Self {
        Self(Some(reply))
    }
}

impl Drop for Untouched {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            let lost = Lost { sent: false, reason: LostReason::Disconnected, retry_after: None };
            // The caller may have gone.
            let _ = reply.end.send(Update::Lost(lost));
        }
    }
}

pub(crate) struct Arguments {
    pub(crate) id: ConnectionId,
    pub(crate) peer: PeerIdentity,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbound: Pin<Box<dyn Stream<Item = Result<RuntimeFrame, Status>> + Send>>,
    pub(crate) outgoing: mpsc::UnboundedSender<Outgoing>,
    pub(crate) backlog: Arc<Backlog>,
}

/// Performs what the state of one connection decides. A temporary child: its Runtime connects again.
pub(crate) struct ConnectionActor;

pub(crate) struct Connection {
    state: State<oneshot::Sender<Update>>,
    streams: HashMap<DispatchId, ChunkSender>,
    shared: Arc<Shared>,
    link: Arc<Link>,
    presence: Presence,
    late_places: Arc<Semaphore>,
    alarm: Alarm,
    reader: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Actor for ConnectionActor {
    type Msg = Message;
    type State = Connection;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<Connection, ActorProcessingErr> {
        let Arguments { id, peer, shared, inbound, outgoing, backlog } = arguments;
        let now = Instant::now();
        let link = Arc::new(Link {
            id,
            actor: myself.clone(),
            outgoing,
            backlog,
            load: 0.into(),
            credits: 0.into(),
            outstanding: 0.into(),
            draining: false.into(),
            leaving: false.into(),
            closed: false.into(),
            streaming: true.into(),
            connected_at: shared.wiring.clock.now(),
            started: now,
            peer: peer.clone(),
            serving: false.into(),
            offered: false.into(),
            identity: OnceLock::new(),
            terms: ArcSwap::from_pointee(None),
            offers: ArcSwap::default(),
        });
        let presence = Presence::new(&shared, &link);
        let directory = Arc::clone(&shared.wiring.directory);
        let lease = Arc::clone(&shared.wiring.lease);
        let state = State::new(id, peer, directory, lease, shared.wiring.options.limits(), now);
        let reader = tokio::spawn(read::frames(inbound, myself.clone()));
        let mut connection = Connection {
            state,
            streams: HashMap::new(),
            shared,
            link,
            presence,
            late_places: Arc::new(Semaphore::new(LATE_KB as usize)),
            alarm: Alarm::default(),
            reader,
        };
        connection.alarm.set(connection.state.next_wake(), &myself);
        Ok(connection)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        connection: &mut Connection,
    ) -> Result<(), ActorProcessingErr> {
        connection.receive(&myself, message);
        connection.settle(&myself);
        Ok(())
    }
}

impl Connection {
    fn receive(&mut self, myself: &ActorRef<Message>, message: Message) {
        match message {
            Message::Frames(frames, _room) => {
                for frame in frames {
                    self.apply(myself, self.event(frame));
                }
            }
            Message::Broken(status) => self.apply(myself, read::broken(status)),
            Message::Dispatch(dispatch, mut reply) => {
                if let Some(Reply { end, chunks }) = reply.0.take() {
                    if let Some(chunks) = chunks {
                        self.streams.insert(dispatch.id, chunks);
                    }
                    self.apply(myself, Event::Dispatch(dispatch, end));
                }
            }
            Message::Cancel(dispatch, reason) => self.apply(myself, Event::Cancel(dispatch, reason)),
            Message::Tick => {
                self.alarm.rung();
                self.apply(myself, Event::Tick);
            }
            Message::Writable => self.apply(myself, Event::Writable(true)),
            Message::Disconnected => self.apply(myself, Event::Disconnected),
            Message::Admitted(answer) => {
                let answer = answer.map(|slot| self.presence.slot = Some(slot));
                self.apply(myself, Event::Admitted(answer));
            }
            Message::Recheck(done) => {
                self.apply(myself, Event::Recheck);
                self.publish_terms();
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
            Message::Drain(farewell) => self.apply(myself, Event::Drain(farewell)),
            Message::Close(error, done) => {
                self.apply(myself, Event::Close(error));
                let _ = done.send(());
            }
        }
    }

    /// Reads a frame. An update that says from when on it holds waits for that time, which is the Host's wall clock's.
    fn event(&self, frame: RuntimeFrame) -> Event<oneshot::Sender<Update>> {
        let update = match frame.frame {
            Some(Frame::CapabilityUpdate(update)) => update,
            other => return other.map_or(Event::Garbage, Event::Frame),
        };
        let wait_ms = update.effective_timestamp.saturating_sub(self.shared.wiring.clock.now().0);
        let Ok(wait_ms @ 1..) = u64::try_from(wait_ms) else {
            return Event::Frame(Frame::CapabilityUpdate(update));
        };
        match Instant::now().checked_add(Duration::from_millis(wait_ms)) {
            Some(at) => Event::Planned(at, update),
            None => Event::Garbage,
        }
    }

    /// Publishes the state's figures, and looks after the alarm and the backlog.
    fn settle(&mut self, myself: &ActorRef<Message>) {
        let backlog = &self.link.backlog;
        if backlog.frames.load(Ordering::Relaxed) > MAX_BACKLOG_FRAMES {
            let error =
                Error::new(ErrorCode::SuspiciousActivity, "the Runtime does not read what it is sent");
            self.apply(myself, Event::Close(error));
        } else if backlog.bytes.load(Ordering::Relaxed) > HIGH_WATER_BYTES
            && !backlog.stalled.swap(true, Ordering::Relaxed)
        {
            let backlog = Arc::clone(backlog);
            self.apply(myself, Event::Writable(false));
            // It may have drained before it could see that somebody waits.
            if backlog.bytes.load(Ordering::Relaxed) < LOW_WATER_BYTES
                && backlog.stalled.swap(false, Ordering::Relaxed)
            {
                self.apply(myself, Event::Writable(true));
            }
        }
        let left = self.state.take_left();
        let calls = self.state.calls();
        let leaving = self.state.is_leaving();
        self.link.publish(self.state.phase(), leaving, calls.outstanding(), calls.credits(), left);
        self.presence.gauge(calls.outstanding(), calls.queued());
        self.alarm.set(self.state.next_wake(), myself);
        if self.state.phase() == Phase::Closed {
            myself.stop(None);
        }
    }

    fn publish_terms(&self) {
        self.link.terms.store(Arc::new(self.state.terms().cloned()));
    }

    fn apply(&mut self, myself: &ActorRef<Message>, event: Event<oneshot::Sender<Update>>) {
        let now = Instant::now();
        let mut effects: VecDeque<_> = self.state.step(now, event).into();
        while let Some(effect) = effects.pop_front() {
            if let Some(event) = self.perform(myself, effect) {
                effects.extend(self.state.step(now, event));
            }
        }
    }

    /// Performs one effect; what it leads to at once is returned.
    fn perform(
        &mut self,
        myself: &ActorRef<Message>,
        effect: Effect<oneshot::Sender<Update>>,
    ) -> Option<Event<oneshot::Sender<Update>>> {
        match effect {
            Effect::Send(frame) => {
                if matches!(frame, HostFrame::Call(_)) {
                    self.shared.wiring.metrics.dispatches.inc();
                }
                self.link.send(frame);
            }
            Effect::End { dispatch, reply, update } => {
                self.streams.remove(&dispatch);
                // A caller who has gone is cancelled by its own message.
                let _ = reply.send(update);
            }
            Effect::Chunk(dispatch, chunk) => {
                let full = self.streams.get(&dispatch).is_some_and(|stream| !stream.push(chunk));
                return full.then_some(Event::Overflow(dispatch));
            }
            Effect::Admit(tenants) => self.admit(myself, tenants),
            Effect::Serving => {
                self.publish_terms();
                self.presence.serve();
                record::connected(&self.shared, &self.link);
            }
            Effect::Streaming(streams) => self.link.streaming.store(streams, Ordering::Relaxed),
            Effect::Offers(change) => self.offers(change),
            Effect::Late(dispatch, result) => self.late(dispatch, result),
            Effect::Open(dispatch) => self.open(dispatch),
            Effect::Report(seen) => self.report(&seen),
            Effect::Note(note) => record::note(&self.shared, &self.link, note),
            Effect::Count(count) => self.count(count),
            Effect::Close(error) => {
                self.presence.reason = error.message().to_owned();
                self.link.finish(error);
            }
        }
        None
    }

    fn admit(&self, myself: &ActorRef<Message>, tenants: Vec<TenantId>) {
        self.publish_terms();
        if let Some(terms) = self.state.terms() {
            // An announcement is accepted once.
            let _ = self.link.identity.set(terms.registration.certificate_identity.as_str().into());
        }
        let (admission, myself) = (Arc::clone(&self.shared.wiring.admission), myself.clone());
        self.shared.duties.spawn(async move {
            let late =
                || Error::new(ErrorCode::ServiceUnavailable, "the tenants' quotas did not answer in time");
            let answer = timeout(ADMISSION, admission.admit(&tenants)).await.unwrap_or_else(|_| Err(late()));
            // A connection that has ended drops the slot with the message.
            drop(myself.send_message(Message::Admitted(answer)));
        });
    }

    fn offers(&self, change: Change) {
        let offers = self.state.offers();
        let begins = !change.added.is_empty() && !self.link.offered.load(Ordering::Acquire);
        self.link.offers.store(Arc::new(offers.granted()));
        self.shared.table.apply(&self.link, change, offers.development_tools());
        self.shared.cluster.touched();
        if begins {
            self.link.offered.store(true, Ordering::Release);
            cluster::newest(&self.shared, &self.link);
        }
    }

    fn late(&self, dispatch: DispatchId, result: ToolResult) {
        let kilobytes = u32::try_from(result.encoded_len() / 1024).unwrap_or(LATE_KB);
        let places = kilobytes.clamp(LATE_LEAST_KB, LATE_KB);
        let Ok(place) = Arc::clone(&self.late_places).try_acquire_many_owned(places) else {
            self.shared.wiring.metrics.results.with_label_values(&["unsettled"]).inc();
            return;
        };
        let (shared, link) = (Arc::clone(&self.shared), Arc::clone(&self.link));
        self.shared.duties.spawn(late::settle(shared, link, dispatch, result, place));
    }

    fn open(&self, dispatch: DispatchId) {
        if let Some(terms) = self.state.terms()
            && let Some(instance) = &terms.instance
        {
            let process = (terms.registration.certificate_identity.clone(), instance.clone());
            self.shared.lost.add(&process, dispatch, Instant::now());
        }
    }

    fn report(&self, seen: &HashSet<DispatchId>) {
        let Some(terms) = self.state.terms() else { return };
        let (Some(instance), Some(identity)) = (&terms.instance, self.link.identity.get()) else { return };
        let process = (terms.registration.certificate_identity.clone(), instance.clone());
        let missing = self.shared.lost.never_received(&process, seen, self.link.started);
        if !missing.is_empty() {
            let told = late::never_received(Arc::clone(&self.shared), Arc::clone(identity), missing);
            self.shared.duties.spawn(told);
        }
    }

    fn count(&self, count: Count) {
        let metrics = &self.shared.wiring.metrics;
        match count {
            Count::Refused => metrics.refused.with_label_values(&["call"]).inc(),
            Count::Duplicate => metrics.results.with_label_values(&["duplicate"]).inc(),
            Count::Failed => metrics.results.with_label_values(&["unusable"]).inc(),
            Count::Overdue => metrics.results.with_label_values(&["overdue"]).inc(),
            Count::Violation => metrics.violations.inc(),
        }
    }
}
