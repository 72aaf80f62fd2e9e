use std::time::Duration;

use aesp_audit::{Duty, Recorder};
use aesp_call::Calls;
use aesp_runtime::Runtimes;
use aesp_supervision::Supervisor;
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Drain;

/// Ends the components in order.
pub(crate) struct End {
    runtimes: Runtimes,
    calls: Calls,
    recorder: Recorder,
    audit: Mutex<Option<Duty>>,
    root: Supervisor,
    closing: CancellationToken,
}

impl End {
    pub(crate) fn new(
        runtimes: Runtimes,
        calls: Calls,
        recorder: Recorder,
        audit: Duty,
        root: Supervisor,
        closing: CancellationToken,
    ) -> Self {
        Self { runtimes, calls, recorder, audit: Mutex::new(Some(audit)), root, closing }
    }
}

#[async_trait]
impl Drain for End {
    async fn send_runtimes_away(&self, grace: Duration) {
        self.runtimes.go_away_all(grace).await;
    }

    async fn finish_calls(&self) {
        self.calls.finish().await;
    }

    async fn close(&self) {
        self.closing.cancel();
        if let Err(error) = self.root.stop().await {
            warn!(%error, "actors did not stop in time");
        }
        if let Some(audit) = self.audit.lock().await.take()
            && let Err(error) = audit.stop().await
        {
            warn!(%error, "the audit writer did not stop cleanly");
        }
        // The log's key is needed no more once the writer has stopped.
        tracing::info!(key = ?self.recorder.public_key(), "audit log closed");
    }
}
