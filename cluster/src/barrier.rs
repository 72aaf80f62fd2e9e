use std::collections::BTreeSet;

use aesp_proto::Incarnation;
use aesp_storage::RightsPosition;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    BarrierError, Cluster, MemberState,
    cluster::Inner,
    look::View,
    peer::Topic,
    rights::{decode, encode, reached},
};

impl Cluster {
    /// Returns when no node can act on rights that ended before this call: every node that lives has applied them, by its own
    /// word over a link or in its row, and the others are dead. Commit the change first and apply it here, then call this.
    ///
    /// Takes milliseconds between nodes that are connected, up to a quarter of a lease for a node that is cut off from its peers
    /// but not from the store, and a lease and a half for one that is cut off from the store.
    ///
    /// # Errors
    /// [`BarrierError`]: the change is committed, but some node may still act on the old rights.
    pub async fn barrier(&self) -> Result<(), BarrierError> {
        let inner = self.inner();
        let began = Instant::now();
        let passed = tokio::select! {
            biased;
            () = inner.stop.cancelled() => Err(BarrierError::Left),
            passed = inner.pass_barrier() => passed,
        };
        let metrics = &inner.context.metrics;
        let outcome = if passed.is_ok() { "passed" } else { "failed" };
        metrics.barriers.with_label_values(&[outcome]).inc();
        metrics.barrier_seconds.observe(began.elapsed().as_secs_f64());
        passed
    }
}

impl Inner {
    async fn pass_barrier(&self) -> Result<(), BarrierError> {
        // The end of the log and the nodes come from one snapshot, which is after the caller's commit.
        let view = View::take(&self.context.store).await?;
        let position = view.rights;
        let mut waiting = lagging(&view, position);
        let wire = self.service.get().and_then(|service| service.wire.as_ref());
        let mut asked: FuturesUnordered<_> = waiting
            .iter()
            .filter(|node| **node != self.own)
            .filter_map(|&node| {
                let answer = wire?.ask(node, Topic::Changes, encode(position));
                Some(async move { (node, answer.await) })
            })
            .collect();
        let mut applied = self.applied.subscribe();
        if waiting.contains(&self.own) {
            self.wakes.apply.notify_one();
        }
        // What a node wrote into its row counts as much, and its death more than anything.
        let mut looks = interval(self.options.lease / 8);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset();
        while !waiting.is_empty() {
            tokio::select! {
                biased;
                Some((node, answer)) = asked.next() => {
                    if answer.is_ok_and(|answer| decode(&answer) >= Some(position)) {
                        waiting.remove(&node);
                    }
                }
                () = reached(&mut applied, position), if waiting.contains(&self.own) => {
                    waiting.remove(&self.own);
                }
                _ = looks.tick() => {
                    match View::take(&self.context.store).await {
                        Ok(view) => {
                            let lagging = lagging(&view, position);
                            waiting.retain(|node| lagging.contains(node));
                        }
                        // Answers may be under way all the same.
                        Err(error) => tracing::debug!(%error, "a look of a barrier failed"),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns the nodes that may still act on rights from before `position`. One that is joining acts on none, and before it does it
/// applies what was committed until then.
fn lagging(view: &View, position: RightsPosition) -> BTreeSet<Incarnation> {
    let lags = |node: &Incarnation| {
        // A row that can't be read says nothing.
        view.row(*node).is_none_or(|row| row.state != MemberState::Joining && row.applied < position)
    };
    view.nodes.keys().copied().filter(lags).collect()
}
