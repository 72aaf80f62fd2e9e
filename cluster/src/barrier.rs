use std::collections::{BTreeMap, BTreeSet};

use aesp_proto::Incarnation;
use aesp_storage::RightsPosition;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::watch, time::Instant};

use crate::{
    BarrierError, Cluster, MemberState,
    cluster::Inner,
    look::{Census, Node, View},
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
        let Census { nodes, rights: position } = Census::take(&self.context.store).await?;
        let mut waiting = lagging(&nodes, position);
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
        // What a node wrote into its row counts as much, and its death more than anything. All that wait look together.
        let _waits = Waits::begin(&self.waiting);
        let mut views = self.views.subscribe();
        views.mark_changed();
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
                Ok(()) = views.changed() => {
                    let view = views.borrow_and_update().clone();
                    strike(&mut waiting, &view, position);
                }
            }
        }
        Ok(())
    }
}

/// One barrier that waits: as long as there is one, the node looks at the store more often.
struct Waits<'a>(&'a watch::Sender<usize>);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// Strikes off who needs not be waited for any more, as a look shows.
///
/// INVARIANT R1: a look from before the change knows neither who joined since nor who is dead.
fn strike(waiting: &mut BTreeSet<Incarnation>, view: &View, position: RightsPosition) {
    if view.rights >= position {
        let lagging = lagging(&view.nodes, position);
        waiting.retain(|node| lagging.contains(node));
    }
}

/// Returns the nodes that may still act on rights from before `position`. One that is joining acts on none, and before it does it
/// applies what was committed until then.
fn lagging(nodes: &BTreeMap<Incarnation, Node>, position: RightsPosition) -> BTreeSet<Incarnation> {
    let lags = |node: &Node| {
        // A row that can't be read says nothing.
        node.row.as_ref().is_none_or(|row| row.state != MemberState::Joining && row.applied < position)
    };
    nodes.iter().filter(|(_, node)| lags(node)).map(|(incarnation, _)| *incarnation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_from_before_the_change_strikes_nobody_off() {
        let everybody = BTreeSet::from([Incarnation(1), Incarnation(2)]);
        let look =
            |rights| View { nodes: BTreeMap::new(), shards: Vec::new(), rights: RightsPosition(rights) };
        let mut waiting = everybody.clone();
        strike(&mut waiting, &look(4), RightsPosition(5));
        assert_eq!(waiting, everybody, "the look may be older than the nodes that it does not know");
        strike(&mut waiting, &look(5), RightsPosition(5));
        assert!(waiting.is_empty(), "the nodes that it does not know are dead");
    }
}
