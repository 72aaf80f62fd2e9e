use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;

use super::{PeerError, link::Link, state::part_cost};

/// What a link delivers to a caller.
#[derive(Debug)]
pub(super) enum Event {
    Part(Bytes),
    End(Result<(), PeerError>),
}

/// The answer to a request: parts in order, then either nothing more or one error. Dropping it before its end cancels the
/// request at the other side.
#[must_use = "dropping an answer cancels its request"]
pub struct Answer {
    link: Arc<Link>,
    id: u64,
    window: u32,
    events: mpsc::UnboundedReceiver<Event>,
    /// Bytes taken that the other side has not been told of.
    taken: u32,
    ended: bool,
}

impl Answer {
    pub(super) fn new(link: Arc<Link>, id: u64, window: u32, events: mpsc::UnboundedReceiver<Event>) -> Self {
        Self { link, id, window, events, taken: 0, ended: false }
    }

    /// Returns the only part of an answer that has one.
    ///
    /// # Errors
    /// [`PeerError`] of the request; [`PeerError::Refused`] if there was no part.
    pub async fn one(mut self) -> Result<Bytes, PeerError> {
        use futures::StreamExt as _;
        let part = self.next().await.unwrap_or_else(|| {
            Err(PeerError::Refused(aesp_proto::Error::internal("the peer's answer is empty")))
        })?;
        match self.next().await {
            None => Ok(part),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) => Err(PeerError::Refused(aesp_proto::Error::internal("the peer's answer goes on"))),
        }
    }

    fn account(&mut self, part: &Bytes) {
        self.taken += part_cost(part.len(), self.window);
        if self.taken >= self.window.div_ceil(2) {
            self.link.credit(self.id, self.taken);
            self.taken = 0;
        }
    }
}

impl Stream for Answer {
    type Item = Result<Bytes, PeerError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(event) = self.events.poll_recv(context) else { return Poll::Pending };
        match event {
            Some(Event::Part(part)) => {
                self.account(&part);
                Poll::Ready(Some(Ok(part)))
            }
            Some(Event::End(how)) => {
                self.ended = true;
                Poll::Ready(how.err().map(Err))
            }
            // Every caller gets an end before the link forgets it; a link that broke this rule has lost the request.
            None => {
                self.ended = true;
                Poll::Ready(Some(Err(PeerError::Lost)))
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.ended {
            self.link.withdraw(self.id);
        }
    }
}
