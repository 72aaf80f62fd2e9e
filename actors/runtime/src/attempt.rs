use std::sync::Arc;

use aesp_proto::DispatchId;
use tokio::sync::oneshot;

use crate::{
    Dispatch, Lost, LostReason, Update,
    actor::{Message, Untouched},
    chunks::{self, ChunkReceiver, ChunkSender},
    cluster::RemoteCall,
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
    shared: Arc<Shared>,
    /// Nothing once it was stopped.
    at: Option<At>,
    ended: bool,
}

/// Who has the call.
enum At {
    Here(Given),
    Elsewhere(Box<RemoteCall>),
}

/// A call at a connection of this node.
struct Given {
    link: Arc<Link>,
    end: oneshot::Receiver<Update>,
    chunks: Option<ChunkReceiver>,
}

impl Shared {
    /// Gives a call to a connection of this node.
    pub(crate) fn give(self: &Arc<Self>, dispatch: Dispatch, link: Arc<Link>) -> Attempt {
        let (end, ends) = oneshot::channel();
        let (sender, chunks) = if dispatch.streaming {
            let (sender, chunks) = chunks::channel();
            (Some(sender), Some(chunks))
        } else {
            (None, None)
        };
        self.hold(&dispatch, &link);
        link.load.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = dispatch.id;
        let reply = Reply { end, chunks: sender };
        // A connection that has just ended tells the attempt so, because the message is dropped.
        link.tell(Message::Dispatch(Box::new(dispatch), Untouched::new(reply)));
        let at = Some(At::Here(Given { link, end: ends, chunks }));
        Attempt { id, shared: Arc::clone(self), at, ended: false }
    }
}

impl Given {
    async fn next(&mut self) -> Step {
        if let Some(chunks) = &mut self.chunks {
            match chunks.next().await {
                Some(chunk) => return Step::Part(Update::Chunk(chunk)),
                None => self.chunks = None,
            }
        }
        // A connection that vanished with its actor says nothing: the call may have been sent.
        let vanished = Lost { sent: true, reason: LostReason::Disconnected, retry_after: None };
        Step::End((&mut self.end).await.unwrap_or(Update::Lost(vanished)))
    }
}

/// What an attempt yields, and whether more comes.
enum Step {
    Part(Update),
    End(Update),
}

impl Attempt {
    /// Waits for a call that another node has run.
    pub(crate) fn elsewhere(id: DispatchId, shared: Arc<Shared>, call: RemoteCall) -> Self {
        Self { id, shared, at: Some(At::Elsewhere(Box::new(call))), ended: false }
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
        let step = match self.at.as_mut()? {
            At::Here(given) => given.next().await,
            At::Elsewhere(call) => match call.next(&self.shared).await {
                Update::Chunk(chunk) if !chunk.is_final => Step::Part(Update::Chunk(chunk)),
                end => Step::End(end),
            },
        };
        Some(match step {
            Step::Part(update) => update,
            Step::End(update) => {
                self.ended = true;
                self.shared.ended(self.id);
                update
            }
        })
    }

    /// Tells the Runtime that the outcome is durable, so that it need not be delivered again.
    pub fn acknowledge(self) {
        match &self.at {
            Some(At::Here(given)) if self.ended => self.shared.acknowledge(&given.link, self.id),
            Some(At::Elsewhere(call)) if self.ended => call.acknowledge(&self.shared, self.id),
            _ => {}
        }
    }

    /// Ends the attempt; a Runtime that is connected here hears the reason.
    pub fn cancel(mut self, reason: &str) {
        self.stop(reason);
    }

    fn stop(&mut self, reason: &str) {
        if self.ended {
            return;
        }
        self.ended = true;
        match self.at.take() {
            Some(At::Here(given)) => {
                given.link.tell(Message::Cancel(self.id, reason.to_owned()));
            }
            // Its node sees that the answer is wanted no more, and cancels.
            Some(At::Elsewhere(call)) => drop(call),
            None => {}
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
