use aesp_proto::DispatchId;

use crate::Update;

/// One dispatched call. Dropping it before its end tells the Runtime to stop.
#[derive(Debug)]
pub struct Attempt {
    id: DispatchId,
}

impl Attempt {
    /// Returns the dispatch id.
    #[must_use]
    pub fn id(&self) -> DispatchId {
        self.id
    }

    /// Waits for what comes next; `None` after the end.
    pub async fn next(&mut self) -> Option<Update> {
        std::future::pending().await
    }

    /// Tells the Runtime that the outcome is durable, so that it need not be delivered again.
    pub fn acknowledge(self) {}

    /// Ends the attempt; the Runtime hears the reason.
    pub fn cancel(self, reason: &str) {
        tracing::trace!(reason, "cancelled");
    }
}
