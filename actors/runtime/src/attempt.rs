use std::sync::Arc;

use aesp_proto::DispatchId;
use tokio::sync::oneshot;

use crate::{
    Lost, LostReason, Update,
    actor::Message,
    chunks::{self, ChunkReceiver, ChunkSender},
    link::Link,
    shared::Shared,
};

/// Where the actor puts what happens to a dispatch.
pub(crate) struct Reply {
    pub(crate) end: oneshot::Sender<Update>,
    pub(crate) chunks: Option<ChunkSender>,
}

/// One dispatched call. Dropping it before its end tells the Runtime to stop.
pub struct Attempt {
    id: DispatchId,
    link: Arc<Link>,
    shared: Arc<Shared>,
    end: oneshot::Receiver<Update>,
    chunks: Option<ChunkReceiver>,
    ended: bool,
}

impl Attempt {
    pub(crate) fn new(
        id: DispatchId,
        link: Arc<Link>,
        shared: Arc<Shared>,
        streaming: bool,
    ) -> (Self, Reply) {
        let (end, ends) = oneshot::channel();
        let (sender, chunks) = if streaming {
            let (sender, chunks) = chunks::channel();
            (Some(sender), Some(chunks))
        } else {
            (None, None)
        };
        (Self { id, link, shared, end: ends, chunks, ended: false }, Reply { end, chunks: sender })
    }

    /// Returns the dispatch id.
    #[must_use]
    pub fn id(&self) -> DispatchId {
        self.id
    }

    /// Waits for what comes next; `None` after the end. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Update> {
        if self.ended {
            return None;
        }
        if let Some(chunks) = &mut self.chunks {
            match chunks.next().await {
                Some(chunk) => return Some(Update::Chunk(chunk)),
                None => self.chunks = None,
            }
        }
        // A connection that vanished with its actor says nothing: the call may have been sent.
        let vanished = Lost { sent: true, reason: LostReason::Disconnected, retry_after: None };
        let update = (&mut self.end).await.unwrap_or(Update::Lost(vanished));
        self.ended = true;
        self.shared.ended(self.id);
        Some(update)
    }

    /// Tells the Runtime that the outcome is durable, so that it need not be delivered again.
    pub fn acknowledge(self) {
        if self.ended {
            self.shared.acknowledge(&self.link, self.id);
        }
    }

    /// Ends the attempt; the Runtime hears the reason.
    pub fn cancel(mut self, reason: &str) {
        self.stop(reason);
    }

    fn stop(&mut self, reason: &str) {
        if !self.ended {
            self.ended = true;
            self.link.tell(Message::Cancel(self.id, reason.to_owned()));
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.stop("the caller has gone");
        self.shared.forget(self.id);
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("id", &self.id).field("ended", &self.ended).finish_non_exhaustive()
    }
}
