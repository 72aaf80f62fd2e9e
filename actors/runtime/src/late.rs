use aesp_proto::{DispatchId, v1::ToolResult};
use async_trait::async_trait;

/// What became of a result that nobody waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is recorded durably, now or before.
    Recorded,
    /// Nobody knows the dispatch, or it was settled otherwise; the Runtime may forget it.
    Unwanted,
    /// It could not be decided at the moment; the Runtime keeps it and delivers it again after its next reconnect.
    Later,
}

/// Settles calls whose outcome is unknown, from what Runtimes tell after the fact.
#[async_trait]
pub trait LateResults: Send + Sync + 'static {
    /// A Runtime with this certificate identity delivers the result of a dispatch that no [`crate::Attempt`] waits for.
    async fn settle(&self, identity: &str, dispatch: DispatchId, result: ToolResult) -> Settled;

    /// The very Runtime process that `dispatch` was sent to reports that it never saw it: it had no effect.
    async fn never_received(&self, identity: &str, dispatch: DispatchId);
}
