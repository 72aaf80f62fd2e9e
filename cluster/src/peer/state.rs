use std::collections::{HashMap, VecDeque};

use aesp_proto::{
    Error,
    v1::{
        PeerBatch, PeerCancel, PeerCredit, PeerEnd, PeerFrame, PeerHello, PeerPart, PeerPing, PeerPong,
        PeerRequest, PeerTell, peer_frame::Frame,
    },
};
use bytes::Bytes;
use tokio::time::Instant;

use super::{Limits, NotSent, PeerError, Topic};

/// What one batch holds at most, so that heartbeats and small frames don't wait behind a long encoding.
const BATCH_FRAMES: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
/// A frame around its payload, for the bounds.
const FRAME_BYTES: usize = 16;

/// One side of a link: which requests run in which direction, and what waits to be sent. Does no I/O: frames go in by
/// [`State::received`] and out by [`State::take`]. `C` stands for a caller of this side, `S` for a request that is served here.
pub(super) struct State<C, S> {
    limits: Limits,
    last_id: u64,
    callers: HashMap<u64, Calling<C>>,
    reserved_bytes: usize,
    serving: HashMap<u64, S>,
    /// Requests of the other side whose end has not been taken by the transport yet.
    open: usize,
    queue: VecDeque<Frame>,
    queued_bytes: usize,
    ping: Option<u64>,
    pong: Option<u64>,
    heard: Instant,
    closed: bool,
}

struct Calling<C> {
    caller: C,
    window: u32,
    /// How much the other side may still send, in bytes.
    left: u64,
    /// Whether the transport has taken the request: from then on the other side may have acted on it.
    sent: bool,
}

/// What a received frame asks for.
#[derive(Debug)]
pub(super) enum Received<C, S> {
    /// Nothing.
    Nothing,
    /// A part of an answer.
    Part(C, Bytes),
    /// The end of an answer.
    End(C, Result<(), PeerError>),
    /// A new request; [`State::serve`] it before the next frame.
    Request { id: u64, topic: Topic, payload: Bytes, window: u32 },
    /// Something that needs no answer.
    Told(Topic, Bytes),
    /// The caller has left.
    Cancelled(S),
    /// The caller has taken some of its answer.
    Credit(u64, u32),
    /// The other side does not keep to the protocol; end the link.
    Violation(&'static str),
}

impl<C: Clone, S> State<C, S> {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            last_id: 0,
            callers: HashMap::new(),
            reserved_bytes: 0,
            serving: HashMap::new(),
            open: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            ping: None,
            pong: None,
            heard: now,
            closed: false,
        }
    }

    /// Queues the greeting, which must be the first frame of a link.
    pub(super) fn greet(&mut self, hello: PeerHello) {
        self.queue.push_back(Frame::Hello(hello));
    }

    /// Queues a request and returns its id and its window.
    pub(super) fn request(&mut self, caller: C, topic: Topic, payload: Bytes) -> Result<(u64, u32), NotSent> {
        self.admit(payload.len())?;
        if self.callers.len() >= self.limits.outstanding {
            return Err(NotSent::Overloaded);
        }
        let Limits { window_bytes, small_window_bytes, reserve_bytes, .. } = self.limits;
        let fits = self.reserved_bytes + window_bytes as usize <= reserve_bytes;
        let window = if fits { window_bytes } else { small_window_bytes };
        self.reserved_bytes += window as usize;
        self.last_id += 1;
        let id = self.last_id;
        self.callers.insert(id, Calling { caller, window, left: window.into(), sent: false });
        self.push(Frame::Request(PeerRequest { id, topic: topic.number(), payload, window }));
        Ok((id, window))
    }

    /// Queues something that needs no answer.
    pub(super) fn tell(&mut self, topic: Topic, payload: Bytes) -> Result<(), NotSent> {
        self.admit(payload.len())?;
        self.push(Frame::Tell(PeerTell { topic: topic.number(), payload }));
        Ok(())
    }

    fn admit(&self, payload_bytes: usize) -> Result<(), NotSent> {
        if self.closed {
            return Err(NotSent::LinkEnded);
        }
        if payload_bytes > self.limits.message_bytes {
            return Err(NotSent::TooLarge);
        }
        let most = self.limits.queue_bytes.max(payload_bytes + FRAME_BYTES);
        if self.queued_bytes + payload_bytes + FRAME_BYTES > most { Err(NotSent::Overloaded) } else { Ok(()) }
    }

    /// Forgets a caller that no longer wants its answer, and tells the other side if it may know of it.
    pub(super) fn withdraw(&mut self, id: u64) {
        let Some(calling) = self.forget(id) else { return };
        // A request that was not taken yet is left out when its turn comes.
        if calling.sent && !self.closed {
            self.push(Frame::Cancel(PeerCancel { id }));
        }
    }

    /// Lets the other side send more of an answer.
    pub(super) fn credit(&mut self, id: u64, bytes: u32) {
        if let Some(calling) = self.callers.get_mut(&id)
            && !self.closed
        {
            calling.left = calling.left.saturating_add(bytes.into());
            self.push(Frame::Credit(PeerCredit { id, bytes }));
        }
    }

    /// Keeps what stands for a request of the other side while it is served.
    pub(super) fn serve(&mut self, id: u64, server: S) {
        self.open += 1;
        self.serving.insert(id, server);
    }

    /// Returns what stands for a request that is served.
    pub(super) fn server(&self, id: u64) -> Option<&S> {
        self.serving.get(&id)
    }

    /// Queues a part of an answer; its bytes were reserved by the caller of this function. Returns whether anybody waits for it.
    pub(super) fn part(&mut self, id: u64, payload: Bytes) -> bool {
        let wanted = self.serving.contains_key(&id) && !self.closed;
        if wanted {
            self.push(Frame::Part(PeerPart { id, payload }));
        }
        wanted
    }

    /// Queues the end of an answer. Does nothing for a request that was cancelled.
    pub(super) fn finish(&mut self, id: u64, error: Option<&Error>) {
        if self.serving.remove(&id).is_some() && !self.closed {
            self.push(Frame::End(PeerEnd { id, error: error.map(Error::to_details), not_taken: false }));
        }
    }

    /// Queues a ping in place of one that is still waiting.
    pub(super) fn ping(&mut self, sequence: u64) {
        self.ping = Some(sequence);
    }

    /// Returns when the other side was heard last.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Applies one frame of the other side.
    pub(super) fn received(&mut self, frame: Frame) -> Received<C, S> {
        match frame {
            Frame::Request(PeerRequest { id, topic, payload, window }) => {
                self.requested(id, topic, payload, window)
            }
            Frame::Part(PeerPart { id, payload }) => match self.callers.get_mut(&id) {
                Some(calling) => {
                    // INVARIANT: what waits for a slow caller is bounded by its window, whatever the other side does.
                    match calling.left.checked_sub(part_cost(payload.len(), calling.window).into()) {
                        Some(left) => calling.left = left,
                        None => return Received::Violation("window_overrun"),
                    }
                    Received::Part(calling.caller.clone(), payload)
                }
                // Withdrawn; the cancellation is on its way.
                None => Received::Nothing,
            },
            Frame::End(PeerEnd { id, error, not_taken }) => match self.forget(id) {
                Some(calling) => Received::End(calling.caller, ended(error, not_taken)),
                None => Received::Nothing,
            },
            Frame::Cancel(PeerCancel { id }) => match self.serving.remove(&id) {
                Some(server) => {
                    self.open -= 1;
                    Received::Cancelled(server)
                }
                None => Received::Nothing,
            },
            Frame::Credit(PeerCredit { id, bytes }) => Received::Credit(id, bytes),
            Frame::Tell(PeerTell { topic, payload }) => match Topic::from_number(topic) {
                Some(topic) => Received::Told(topic, payload),
                // Of a newer release, which knows that an older one hears nothing of it.
                None => Received::Nothing,
            },
            Frame::Ping(PeerPing { sequence }) => {
                self.pong = Some(sequence);
                Received::Nothing
            }
            Frame::Pong(_) => Received::Nothing,
            Frame::Hello(_) => Received::Violation("second_hello"),
        }
    }

    fn requested(&mut self, id: u64, topic: u32, payload: Bytes, window: u32) -> Received<C, S> {
        if self.serving.contains_key(&id) {
            return Received::Violation("repeated_id");
        }
        // Each refusal waits in the queue too: who sends on without reading is cut off.
        if self.queue.len() > self.limits.outstanding.saturating_mul(4) + BATCH_FRAMES {
            return Received::Violation("overrun");
        }
        let refuse = |end: PeerEnd| Frame::End(PeerEnd { id, ..end });
        let Some(topic) = Topic::from_number(topic) else {
            let error = Error::invalid("this release does not know the topic").to_details();
            self.open += 1;
            self.push(refuse(PeerEnd { error: Some(error), ..PeerEnd::default() }));
            return Received::Nothing;
        };
        if self.open >= self.limits.outstanding {
            self.open += 1;
            self.push(refuse(PeerEnd { not_taken: true, ..PeerEnd::default() }));
            return Received::Nothing;
        }
        Received::Request { id, topic, payload, window: window.max(1) }
    }

    /// Hands waiting frames to the transport. Requests among them count as sent from now on. Returns how many bytes of parts
    /// have left the queue, too.
    pub(super) fn take(&mut self) -> Option<(PeerBatch, usize)> {
        let (mut frames, mut bytes, mut freed) = (Vec::new(), 0, 0);
        while frames.len() < BATCH_FRAMES && bytes < BATCH_BYTES {
            let Some(frame) = self.queue.pop_front() else { break };
            let size = size_of(&frame);
            self.queued_bytes -= size;
            match &frame {
                Frame::Request(request) => match self.callers.get_mut(&request.id) {
                    Some(calling) => calling.sent = true,
                    None => continue,
                },
                Frame::Part(part) => {
                    bytes += part.payload.len();
                    freed += part.payload.len().min(self.limits.queue_bytes);
                }
                Frame::End(_) => self.open -= 1,
                _ => {}
            }
            bytes += size;
            frames.push(frame);
        }
        // Last: never before a hello.
        frames.extend(self.pong.take().map(|sequence| Frame::Pong(PeerPong { sequence })));
        frames.extend(self.ping.take().map(|sequence| Frame::Ping(PeerPing { sequence })));
        if frames.is_empty() {
            return None;
        }
        let frames = frames.into_iter().map(|frame| PeerFrame { frame: Some(frame) }).collect();
        Some((PeerBatch { frames }, freed))
    }

    /// Ends everything: callers learn whether their request may have been seen, servers are returned to be stopped.
    pub(super) fn close(&mut self) -> (Vec<(C, PeerError)>, Vec<S>) {
        self.closed = true;
        self.queue.clear();
        self.queued_bytes = 0;
        self.reserved_bytes = 0;
        let ended = |calling: Calling<C>| {
            let why = if calling.sent { PeerError::Lost } else { NotSent::LinkEnded.into() };
            (calling.caller, why)
        };
        let callers = self.callers.drain().map(|(_, calling)| ended(calling)).collect();
        (callers, self.serving.drain().map(|(_, server)| server).collect())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    fn forget(&mut self, id: u64) -> Option<Calling<C>> {
        let calling = self.callers.remove(&id)?;
        self.reserved_bytes -= calling.window as usize;
        Some(calling)
    }

    fn push(&mut self, frame: Frame) {
        self.queued_bytes += size_of(&frame);
        self.queue.push_back(frame);
    }
}

/// Returns what a part takes of its window: its length, at least a byte, because an empty one takes room, too, and at most all
/// of the window.
pub(super) fn part_cost(length: usize, window: u32) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX).clamp(1, window.max(1))
}

fn ended(error: Option<aesp_proto::v1::EnterpriseError>, not_taken: bool) -> Result<(), PeerError> {
    match error {
        _ if not_taken => Err(NotSent::Overloaded.into()),
        None => Ok(()),
        Some(details) => Err(PeerError::Refused(Error::from_details(details))),
    }
}

/// What a frame counts in the bound of the queue. Only requests and tells are counted; parts are bounded by their own
/// reservation, and the rest by the number of running requests.
fn size_of(frame: &Frame) -> usize {
    match frame {
        Frame::Request(PeerRequest { payload, .. }) | Frame::Tell(PeerTell { payload, .. }) => {
            payload.len() + FRAME_BYTES
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
