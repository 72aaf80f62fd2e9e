use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The bounds of a [`crate::Handle`].
#[derive(Clone, Copy, Debug)]
pub struct Mailbox {
    /// How many requests may wait or be worked on at once.
    pub capacity: usize,
    /// How long a caller waits for the answer.
    pub deadline: Duration,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self { capacity: 1024, deadline: Duration::from_secs(5) }
    }
}

/// Where an actor puts its answer. Travels in the message and holds the request's place in the mailbox, so that a caller who
/// went away doesn't make room for another while the actor still has the request before it.
#[derive(Debug)]
pub struct Reply<T> {
    sender: oneshot::Sender<T>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<T> Reply<T> {
    pub(crate) fn new(place: OwnedSemaphorePermit) -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, _place: Some(place) }, receiver)
    }

    /// Answers. A caller who no longer waits is no error.
    pub fn send(self, answer: T) {
        // The caller's deadline may have passed; nobody else wants the answer.
        let _ = self.sender.send(answer);
    }

    /// Tells whether the caller stopped waiting, so that work can be spared.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }
}
