use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use aesp_proto::v1::PeerBatch;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::{MissedTickBehavior, interval};
use tonic::Status;

use super::{identity::Identity, link::Link, peers::Peers, registry::Occupied};

impl Peers {
    /// Puts a greeted link into service and carries it until it ends. An older link of the same pair ends first.
    ///
    /// # Errors
    /// `late` if there is a later link already.
    pub(super) async fn admit(&self, link: &Arc<Link>) -> Result<(), &'static str> {
        while let Err(occupied) = self.0.registry.insert(link) {
            match occupied {
                Occupied::ByNewer => return Err("late"),
                Occupied::ByOlder(older) => {
                    older.close();
                    older.ended.cancelled().await;
                }
            }
        }
        self.0.metrics.links.inc();
        Ok(())
    }

    /// Carries an admitted link until it ends.
    pub(super) async fn carry(
        &self,
        link: Arc<Link>,
        first: PeerBatch,
        inbound: impl Stream<Item = Result<PeerBatch, Status>> + Unpin,
        identity: Identity,
    ) -> &'static str {
        tracing::info!(
            peer = %link.peer,
            name = identity.name,
            attempt = link.attempt,
            protocol = link.protocol(),
            "peer link up"
        );
        // A panic of the service must not leave a link that nobody reads.
        let carried = AssertUnwindSafe(self.read(&link, first, inbound, &identity)).catch_unwind().await;
        let reason = carried.unwrap_or("panic");
        link.shut();
        self.0.registry.remove(&link);
        if catch_unwind(AssertUnwindSafe(|| self.0.service.down(link.peer))).is_err() {
            self.0.metrics.panics.inc();
        }
        link.ended.cancel();
        self.0.metrics.links.dec();
        self.0.metrics.ended.with_label_values(&[reason]).inc();
        tracing::info!(peer = %link.peer, name = identity.name, reason, "peer link down");
        reason
    }

    async fn read(
        &self,
        link: &Arc<Link>,
        first: PeerBatch,
        mut inbound: impl Stream<Item = Result<PeerBatch, Status>> + Unpin,
        identity: &Identity,
    ) -> &'static str {
        let timing = self.0.options.timing;
        let mut ticks = interval(timing.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut material = self.0.tls.as_ref().map(super::LiveTls::subscribe);
        let mut sequence = 0;
        self.0.service.up(link.peer);
        if let Err(violation) = link.received(first, &self.0.service) {
            return self.violated(violation);
        }
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return "stopped",
                () = link.closing() => return "closed",
                batch = inbound.next() => match batch {
                    Some(Ok(batch)) => {
                        if let Err(violation) = link.received(batch, &self.0.service) {
                            return self.violated(violation);
                        }
                    }
                    Some(Err(_)) => return "broken",
                    None => return "left",
                },
                _ = ticks.tick() => {
                    if link.heard().elapsed() > timing.silence {
                        return "silent";
                    }
                    if identity.not_after < self.0.clock.now() {
                        return "expired";
                    }
                    sequence += 1;
                    link.ping(sequence);
                }
                () = changed(&mut material) => {
                    let refusal = self.0.tls.as_ref().and_then(|tls| tls.load().refusal(&identity.chain));
                    if let Some(reason) = refusal {
                        return reason;
                    }
                }
            }
        }
    }

    /// Puts on record that a node of the cluster does not keep to the protocol.
    fn violated(&self, violation: &'static str) -> &'static str {
        self.0.refusals.note(violation, None);
        violation
    }
}

async fn changed(material: &mut Option<tokio::sync::watch::Receiver<Arc<super::Tls>>>) {
    if let Some(material) = material
        && material.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
