use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    task::{Context, Poll},
};

use aesp_proto::{
    Error, Incarnation,
    v1::{PeerBatch, PeerHello, peer_frame::Frame},
};
use bytes::Bytes;
use futures::{
    FutureExt, Stream, StreamExt,
    future::{AbortHandle, Abortable},
    stream::BoxStream,
    task::AtomicWaker,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Metrics, NotSent, Options, PeerService, Topic,
    answer::Event,
    state::{Received, State, part_cost},
};

/// One link to one incarnation, from the first hello to its end.
pub(super) struct Link {
    pub(super) peer: Incarnation,
    /// The dialler's number of it.
    pub(super) attempt: u64,
    /// What both sides speak, once they have greeted.
    protocol: OnceLock<u32>,
    options: Arc<Options>,
    metrics: Metrics,
    state: Mutex<State<Caller, Serving>>,
    /// Wakes the transport when there is something to send.
    transport: AtomicWaker,
    /// Bytes of answers that may still be queued.
    room: Semaphore,
    closing: CancellationToken,
    /// Cancelled when the service has heard that the link is down.
    pub(super) ended: CancellationToken,
}

type Caller = mpsc::UnboundedSender<Event>;

/// A request of the other side while it is answered here.
struct Serving {
    stop: AbortHandle,
    /// Bytes that the caller still lets come.
    credit: Arc<Semaphore>,
}

impl Link {
    pub(super) fn new(
        peer: Incarnation,
        attempt: u64,
        options: Arc<Options>,
        metrics: Metrics,
        hello: PeerHello,
    ) -> Arc<Self> {
        let mut state = State::new(options.limits, Instant::now());
        state.greet(hello);
        Arc::new(Self {
            peer,
            attempt,
            protocol: OnceLock::new(),
            metrics,
            state: Mutex::new(state),
            transport: AtomicWaker::new(),
            room: Semaphore::new(options.limits.queue_bytes),
            options,
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Notes what both sides speak; the first word counts.
    pub(super) fn agree(&self, protocol: u32) {
        self.protocol.get_or_init(|| protocol);
    }

    /// Returns what both sides speak; none before they have greeted.
    pub(super) fn protocol(&self) -> Option<u32> {
        self.protocol.get().copied()
    }

    pub(super) fn request(self: &Arc<Self>, topic: Topic, payload: Bytes) -> Result<Answer, NotSent> {
        let (caller, events) = mpsc::unbounded_channel();
        let (id, window) = self.lock().request(caller, topic, payload)?;
        self.transport.wake();
        Ok(Answer::new(self.clone(), id, window, events))
    }

    pub(super) fn tell(&self, topic: Topic, payload: Bytes) -> Result<(), NotSent> {
        self.lock().tell(topic, payload)?;
        self.transport.wake();
        Ok(())
    }

    pub(super) fn withdraw(&self, id: u64) {
        self.lock().withdraw(id);
        self.transport.wake();
    }

    pub(super) fn credit(&self, id: u64, bytes: u32) {
        self.lock().credit(id, bytes);
        self.transport.wake();
    }

    pub(super) fn ping(&self, sequence: u64) {
        self.lock().ping(sequence);
        self.transport.wake();
    }

    pub(super) fn heard(&self) -> Instant {
        self.lock().heard()
    }

    /// Asks for the end of the link; it comes soon, see [`Link::ended`].
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    pub(super) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Ends every request in both directions.
    pub(super) fn shut(&self) {
        let (callers, servers) = self.lock().close();
        self.closing.cancel();
        self.room.close();
        self.transport.wake();
        for (caller, why) in callers {
            // A caller that has left needs no end.
            caller.send(Event::End(Err(why))).ok();
        }
        for server in servers {
            server.stop.abort();
        }
    }

    /// Applies what came over the link, in its order.
    pub(super) fn received(
        self: &Arc<Self>,
        batch: PeerBatch,
        service: &Arc<dyn PeerService>,
    ) -> Result<(), &'static str> {
        let now = Instant::now();
        self.metrics.received_frames.inc_by(batch.frames.len() as u64);
        for frame in batch.frames.into_iter().filter_map(|frame| frame.frame) {
            let received = {
                let mut state = self.lock();
                state.hear(now);
                state.received(frame)
            };
            match received {
                Received::Nothing => {}
                // Callers that have just left need nothing.
                Received::Part(caller, payload) => drop(caller.send(Event::Part(payload))),
                Received::End(caller, how) => drop(caller.send(Event::End(how))),
                Received::Request { id, topic, payload, window } => {
                    self.serve(id, topic, payload, window, service)
                }
                Received::Told(topic, payload) => service.told(self.peer, topic, payload),
                Received::Cancelled(server) => server.stop.abort(),
                Received::Credit(id, bytes) => self.credited(id, bytes),
                Received::Violation(what) => return Err(what),
            }
        }
        // Answers to pings wait now.
        self.transport.wake();
        Ok(())
    }

    fn credited(&self, id: u64, bytes: u32) {
        let credit = self.lock().server(id).map(|server| server.credit.clone());
        if let Some(credit) = credit {
            let room = Semaphore::MAX_PERMITS - credit.available_permits();
            credit.add_permits(room.min(bytes as usize));
        }
    }

    fn serve(
        self: &Arc<Self>,
        id: u64,
        topic: Topic,
        payload: Bytes,
        window: u32,
        service: &Arc<dyn PeerService>,
    ) {
        let credit = Arc::new(Semaphore::new(window as usize));
        let (stop, stopped) = AbortHandle::new_pair();
        self.lock().serve(id, Serving { stop, credit: credit.clone() });
        let parts = service.request(self.peer, topic, payload);
        let link = self.clone();
        // Named by the link; ends with the answer, the caller or the link.
        tokio::spawn(async move {
            let work = Abortable::new(link.answer(id, parts, window, &credit), stopped);
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(end)) => link.finish(id, end.as_ref()),
                Ok(Err(_aborted)) => {}
                Err(_panic) => {
                    link.metrics.panics.inc();
                    tracing::error!(peer = %link.peer, topic = topic.name(), "a request of a peer panicked");
                    link.finish(id, Some(&Error::internal("panic")));
                }
            }
        });
    }

    /// Sends the parts as the caller and the transport take them; returns the refusal, if it ends in one.
    async fn answer(
        &self,
        id: u64,
        mut parts: BoxStream<'static, Result<Bytes, Error>>,
        window: u32,
        credit: &Semaphore,
    ) -> Option<Error> {
        while let Some(part) = parts.next().await {
            let payload = match part {
                Ok(payload) if payload.len() <= self.options.limits.message_bytes => payload,
                Ok(_) => return Some(Error::internal("a part of an answer is above the limit of a message")),
                Err(error) => return Some(error),
            };
            let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            // Closed with the link, and then nobody wants an end either.
            credit.acquire_many(part_cost(payload.len(), window)).await.ok()?.forget();
            let most = u32::try_from(self.options.limits.queue_bytes).unwrap_or(u32::MAX);
            self.room.acquire_many(size.min(most)).await.ok()?.forget();
            if !self.lock().part(id, payload) {
                return None;
            }
            self.transport.wake();
        }
        None
    }

    fn finish(&self, id: u64, error: Option<&Error>) {
        self.lock().finish(id, error);
        self.transport.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State<Caller, Serving>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What a link sends, as the transport asks for it. While the transport asks for nothing, requests wait unsent.
pub(super) struct Outbound(pub(super) Arc<Link>);

impl Stream for Outbound {
    type Item = PeerBatch;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PeerBatch>> {
        let link = &self.0;
        link.transport.register(context.waker());
        let mut state = link.lock();
        if state.is_closed() {
            return Poll::Ready(None);
        }
        let Some((batch, freed)) = state.take() else { return Poll::Pending };
        drop(state);
        link.room.add_permits(freed);
        link.metrics.sent_batches.inc();
        link.metrics.sent_frames.inc_by(batch.frames.len() as u64);
        Poll::Ready(Some(batch))
    }
}

/// Takes the greeting out of the first batch of a link.
pub(super) fn greeting(batch: &mut PeerBatch) -> Option<PeerHello> {
    if batch.frames.is_empty() {
        return None;
    }
    match batch.frames.remove(0).frame? {
        Frame::Hello(hello) => Some(hello),
        _ => None,
    }
}
