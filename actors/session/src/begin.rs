use std::sync::Arc;

use aesp_cluster::Fence;
use aesp_proto::SessionId;
use ractor::ActorRef;
use tokio_util::sync::CancellationToken;

use crate::{actor::Message, state::Ticket};

/// What a request in a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// To nothing that runs: it is let in while the session is this node's.
    Outermost,
    /// To a call that runs in the session: it is let in also while the session's shard leaves. The hand-over waits for it as for
    /// the outer one.
    Nested,
}

/// What came of beginning a call.
#[derive(Debug)]
pub enum Begin {
    /// Nobody else runs it; the caller does now.
    New(Running),
    /// The same call runs already.
    Join(Joined),
}

/// The right to run a call under its invocation id. The id is free again when this is dropped.
#[derive(Debug)]
#[must_use = "the call is over when this is dropped"]
pub struct Running {
    pub(crate) session: SessionId,
    pub(crate) fence: Fence,
    pub(crate) started: Started,
}

impl Running {
    /// Returns the session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Returns what every write of this call must be fenced by.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Returns the signal that nobody wants the call any more: it was cancelled, its session ended, or the session's actor
    /// crashed.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.started.cancelled.clone()
    }

    /// Ends the call; those who joined it look at its recorded outcome now.
    pub fn finish(self) {}
}

/// What the session's actor gives to who begins a call. Its end frees the id wherever that is: a caller who went away before
/// the answer reached it would otherwise keep the id for ever.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) actor: ActorRef<Message>,
    pub(crate) invocation: Arc<str>,
    pub(crate) ticket: Ticket,
    pub(crate) cancelled: CancellationToken,
}

impl Drop for Started {
    fn drop(&mut self) {
        let message = Message::Finish { invocation: self.invocation.clone(), ticket: self.ticket };
        // An actor that is gone has forgotten the call already.
        let _ = self.actor.send_message(message);
    }
}

/// A call that somebody else runs.
#[derive(Debug)]
pub struct Joined {
    pub(crate) over: CancellationToken,
}

impl Joined {
    /// Waits until the call is over. Its outcome, if it left one, is recorded then; otherwise begin again.
    pub async fn ended(self) {
        self.over.cancelled_owned().await;
    }
}
