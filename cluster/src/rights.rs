//! Changed rights: this node applies what the log in the store says, and the others wait for it.

use std::{sync::Arc, time::Duration};

use aesp_proto::{ErrorCode, Incarnation};
use aesp_storage::{RightsPosition, RightsSince, cluster_changes_key, rights_key};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::{Changed, Cluster, cluster::Inner, peer::Topic};

/// After what time a store or a duty that failed is asked again.
const RETRY: Duration = Duration::from_millis(100);

/// What travels about a change: the place in the log, 8 bytes, big-endian; what follows is of a newer release.
pub(crate) fn encode(position: RightsPosition) -> Bytes {
    Bytes::copy_from_slice(&position.0.to_be_bytes())
}

/// Reads a place in the log.
pub(crate) fn decode(payload: &[u8]) -> Option<RightsPosition> {
    payload.first_chunk().map(|position| RightsPosition(u64::from_be_bytes(*position)))
}

/// Returns when the applied place has come to `position`.
pub(crate) async fn reached(applied: &mut watch::Receiver<RightsPosition>, position: RightsPosition) {
    if applied.wait_for(|applied| *applied >= position).await.is_err() {
        // Nobody applies any more; whoever waits hears of the end otherwise.
        std::future::pending().await
    }
}

impl Cluster {
    /// Answers another node about [`Topic::Changes`]: when its change holds here.
    #[must_use]
    pub fn asked(
        &self,
        from: Incarnation,
        topic: Topic,
        payload: Bytes,
    ) -> BoxStream<'static, Result<Bytes, aesp_proto::Error>> {
        let inner = Arc::clone(self.inner());
        let position = match (topic, decode(&payload)) {
            (Topic::Changes, Some(position)) => position,
            _ => {
                tracing::warn!(%from, topic = topic.name(), "a peer asked the cluster something that makes no sense");
                let error = aesp_proto::Error::invalid("the cluster does not know this request");
                return stream::iter([Err(error)]).boxed();
            }
        };
        stream::once(async move { inner.hold(position).await }).boxed()
    }

    /// Hears from another node about [`Topic::Changes`] or [`Topic::Handover`]: hints to look at the store now.
    pub fn told(&self, from: Incarnation, topic: Topic, payload: Bytes) {
        let wakes = &self.inner().wakes;
        tracing::trace!(%from, topic = topic.name(), bytes = payload.len(), "hint");
        match topic {
            Topic::Changes => wakes.apply.notify_one(),
            _ => wakes.look.notify_one(),
        }
    }
}

impl Inner {
    /// Returns when rights up to `position` hold here.
    async fn hold(&self, position: RightsPosition) -> Result<Bytes, aesp_proto::Error> {
        self.wakes.apply.notify_one();
        let mut applied = self.applied.subscribe();
        tokio::select! {
            biased;
            () = reached(&mut applied, position) => Ok(encode(*self.applied.borrow())),
            () = self.stop.cancelled() => {
                Err(aesp_proto::Error::new(ErrorCode::ServiceUnavailable, "the node has left its cluster"))
            }
        }
    }

    /// Applies changed rights, as soon as it hears of them.
    pub(crate) async fn keep_applying(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.wakes.apply.notified() => {}
            }
            while !self.apply().await {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = sleep(RETRY) => {}
                }
            }
        }
    }

    /// Applies everything that is in the log now; false if something failed.
    async fn apply(&self) -> bool {
        let from = *self.applied.borrow();
        // INVARIANT R1: the place is read before the rights are, so they are at least as new as it says.
        let since = self.context.store.run(move |tx| Box::pin(async move { tx.rights_since(from).await }));
        let RightsSince { position, tenants } = match since.await {
            Ok(since) => since,
            Err(error) => {
                tracing::warn!(%error, "changes of rights can't be read");
                return false;
            }
        };
        if position == from {
            self.context.metrics.rights_behind.set(0);
            return true;
        }
        let behind = position.0.saturating_sub(from.0);
        self.context.metrics.rights_behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
        let Some(service) = self.service.get() else { return true };
        let changed = tenants.map_or(Changed::Everything, Changed::Tenants);
        if let Err(error) = service.duties.apply(&changed).await {
            tracing::warn!(%error, "changed rights can't be applied; the lease is not extended");
            self.context.metrics.apply_failures.inc();
            return false;
        }
        self.applied.send_replace(position);
        self.context.metrics.rights_behind.set(0);
        true
    }

    /// Follows the end of the log.
    pub(crate) async fn follow_rights(self: Arc<Self>) {
        self.follow(rights_key(), &self.wakes.apply).await;
    }

    /// Follows what happens to nodes and shards.
    pub(crate) async fn follow_changes(self: Arc<Self>) {
        self.follow(cluster_changes_key(), &self.wakes.look).await;
    }

    async fn follow(&self, key: Vec<u8>, wake: &Notify) {
        loop {
            let changed = self.context.store.watch(&key);
            // What changed before the watch was there would be missed otherwise.
            wake.notify_one();
            let watched = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                watched = changed => watched,
            };
            if let Err(error) = watched {
                tracing::warn!(%error, "the cluster's rows can't be watched");
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = sleep(RETRY) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_travel_and_may_be_followed_by_more() {
        let place = RightsPosition(0x0102);
        assert_eq!(encode(place).as_ref(), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(decode(&encode(place)), Some(place));
        assert_eq!(decode(&[0, 0, 0, 0, 0, 0, 1, 2, 9]), Some(place));
        assert_eq!(decode(&[1, 2]), None);
    }
}
