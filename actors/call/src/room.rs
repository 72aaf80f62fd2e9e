use std::{sync::Arc, time::Duration};

use aesp_proto::{Error, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// When a place may be free again: calls end quickly.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The places for calls on this node, over all tenants: what bounds its memory, whatever the tenants' own limits add up to.
#[derive(Debug)]
pub(crate) struct Room {
    places: Arc<Semaphore>,
    most: usize,
}

impl Room {
    pub(crate) fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), most }
    }

    /// Takes a place until the answer is dropped.
    ///
    /// # Errors
    /// `RESOURCE_UNAVAILABLE` if there is none.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let text = format!("the node runs {} calls already, which is its limit", self.most);
            Error::new(ErrorCode::ResourceUnavailable, text)
                .remedy("call again after retry_after_ms; an operator raises limits.calls_in_flight or adds a node")
                .retry_after(RETRY_AFTER)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_call_is_over() {
        let room = Room::new(2);
        let (first, _second) = (room.take().expect("free"), room.take().expect("free"));
        let refusal = room.take().expect_err("two are taken");
        assert_eq!(refusal.code(), ErrorCode::ResourceUnavailable);
        assert_eq!(refusal.retry_delay(), Some(RETRY_AFTER));
        drop(first);
        assert!(room.take().is_ok(), "the place is not free again");
    }
}
