use std::time::Duration;

use aesp_audit::{Duty, Recorder};
use aesp_call::Calls;
use aesp_cluster::Cluster;
use aesp_runtime::Runtimes;
use aesp_supervision::Supervisor;
use aesp_tenant::Tenants;
use async_trait::async_trait;
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{Drain, cluster::Membership, forward::Forward};

/// How long the cluster and its links may take to close.
const LINKS_CLOSE: Duration = Duration::from_secs(2);

/// Ends the components in order.
pub(crate) struct End {
    pub(crate) tenants: Tenants,
    pub(crate) runtimes: Runtimes,
    pub(crate) calls: Calls,
    pub(crate) forward: Forward,
    pub(crate) cluster: Cluster,
    /// None for a node that is alone.
    pub(crate) membership: Option<Membership>,
    pub(crate) recorder: Recorder,
    pub(crate) audit: Mutex<Option<Duty>>,
    pub(crate) root: Supervisor,
    pub(crate) closing: CancellationToken,
}

#[async_trait]
impl Drain for End {
    async fn hand_over(&self) {
        // A node that is alone has nobody to hand over to: its calls end here, see `leave`.
        if self.membership.is_none() {
            return;
        }
        let left = self.cluster.drain().await;
        if left > 0 {
            warn!(left, "shards were not handed over; the others take them");
        }
    }

    async fn send_runtimes_away(&self, grace: Duration) {
        self.runtimes.go_away_all(grace).await;
    }

    async fn finish_calls(&self) {
        self.calls.finish().await;
        self.forward.finish().await;
        self.runtimes.finish().await;
    }

    async fn leave(&self) {
        // Nothing runs here any more: nothing has to stay reserved for it.
        self.tenants.leave().await;
        if self.membership.is_none() {
            self.cluster.drain().await;
        }
        self.cluster.leave().await;
        if let Some(membership) = &self.membership
            && timeout(LINKS_CLOSE, membership.stop()).await.is_err()
        {
            warn!("links to other nodes did not close in time");
        }
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
