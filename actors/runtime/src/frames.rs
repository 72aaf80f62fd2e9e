use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use aesp_proto::v1::HostFrame;
use futures::Stream;
use ractor::ActorRef;
use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    RemainingLease,
    actor::Message,
    lease::millis,
    link::{Backlog, LOW_WATER_BYTES, Outgoing},
};

/// What the Host sends to a Runtime. Dropping it closes the connection.
pub struct HostFrames {
    frames: mpsc::UnboundedReceiver<Outgoing>,
    backlog: Arc<Backlog>,
    actor: ActorRef<Message>,
    lease: RemainingLease,
    ended: bool,
}

impl HostFrames {
    pub(crate) fn new(
        frames: mpsc::UnboundedReceiver<Outgoing>,
        backlog: Arc<Backlog>,
        actor: ActorRef<Message>,
        lease: RemainingLease,
    ) -> Self {
        Self { frames, backlog, actor, lease, ended: false }
    }
}

impl Stream for HostFrames {
    type Item = Result<HostFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match ready!(self.frames.poll_recv(context)) {
            Some(Outgoing::Frame(mut frame, bytes)) => {
                // As late as can be: a frame that waited says what is left when it goes.
                frame.lease_remaining_ms = Some(millis((self.lease)()));
                self.backlog.frames.fetch_sub(1, Ordering::Relaxed);
                let left = self.backlog.bytes.fetch_sub(bytes, Ordering::Relaxed) - bytes;
                if left < LOW_WATER_BYTES
                    && self.backlog.stalled.load(Ordering::Relaxed)
                    && self.backlog.stalled.swap(false, Ordering::Relaxed)
                {
                    // An actor that has ended sends nothing more.
                    drop(self.actor.send_message(Message::Writable));
                }
                Poll::Ready(Some(Ok(*frame)))
            }
            Some(Outgoing::End(status)) => {
                self.ended = true;
                Poll::Ready(Some(Err(status)))
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for HostFrames {
    fn drop(&mut self) {
        drop(self.actor.send_message(Message::Disconnected));
    }
}

impl std::fmt::Debug for HostFrames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostFrames")
    }
}
