//! What operators ask of the cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aesp_proto::{Incarnation, TenantId};
use aesp_storage::{Error, Store};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    Cluster, MemberState, NodeStatus, Notice, RemoveError,
    cluster::{Inner, Intent, Service},
    look::View,
    moves::{declare_dead, leave},
    placement::misplaced,
    rows::{NodeRow, Setting, drain_order},
};

/// How long a node that leaves tries to say so.
const FAREWELL: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);

impl Cluster {
    /// Hands over all shards, and takes none any more; returns how many are left: none, if others could take them within the
    /// grace of a hand-over. What nobody can take is given up.
    pub async fn drain(&self) -> usize {
        let inner = self.inner();
        inner.intent.send_replace(Intent::Drain);
        inner.wakes.renew.notify_one();
        let deadline = Instant::now() + inner.options.grace + 3 * inner.options.lease;
        let mut views = inner.views.subscribe();
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            let left = view.shards.iter().flatten().filter(|row| row.owner == Some(inner.own)).count();
            let drains = view.row(inner.own).is_none_or(|row| row.state == MemberState::Draining);
            if drains && left == 0 && inner.holdings().count() == 0 {
                return 0;
            }
            let ended = tokio::select! {
                biased;
                () = inner.stop.cancelled() => true,
                changed = timeout_at(deadline, views.changed()) => !matches!(changed, Ok(Ok(()))),
            };
            if ended {
                return left.max(inner.holdings().count());
            }
        }
    }

    /// Leaves: ends what is still held, and says that this incarnation is over, so that nobody waits for the end of its lease.
    /// After [`Cluster::drain`], or without it when there is no time.
    pub async fn leave(&self) {
        let inner = self.inner();
        inner.intent.send_replace(Intent::Drain);
        // INVARIANT S1: first this node stops, then it says so.
        inner.lease.leave();
        inner.change(|holdings| (holdings.disable(), ()));
        inner.stop.cancel();
        let (store, name) = (&inner.context.store, inner.options.name.as_str());
        let deadline = Instant::now() + FAREWELL;
        let left = timeout_at(deadline, async {
            while let Err(error) = leave(store, inner.own, name, inner.wall()).await {
                tracing::warn!(%error, "can't say that this node leaves");
                sleep(RETRY).await;
            }
        });
        if left.await.is_ok() {
            inner.notice(Notice::NodeLeft { node: inner.own, name: name.to_owned() });
        } else {
            tracing::warn!("left without saying so; the others will find out by the silence of the lease");
        }
    }

    /// Lets every node compare where the shards are with where they should be; returns how many are to move.
    ///
    /// # Errors
    /// The store's.
    pub async fn rebalance(&self) -> Result<usize, Error> {
        let inner = self.inner();
        let view = View::take(&inner.context.store).await?;
        inner.context.store.run(|tx| Box::pin(async move { tx.tell_cluster() })).await?;
        inner.wakes.look.notify_one();
        let members = view.members(&inner.eyes().observer, inner.now());
        Ok(misplaced(&members, &view.placed()))
    }

    /// Removes a node: declares it dead if its lease has been silent for too long, and otherwise orders it to drain, after which it
    /// can be stopped. A living node is never declared dead.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub async fn remove(&self, node: Incarnation) -> Result<(), RemoveError> {
        let inner = self.inner();
        let (store, now) = (&inner.context.store, inner.now());
        let view = View::take(store).await?;
        if !view.nodes.contains_key(&node) {
            return Err(RemoveError::Unknown(node));
        }
        let silent = inner.eyes().observer.silent(now).into_iter().find(|(silent, _)| *silent == node);
        if let Some((_, seen)) = silent.filter(|_| node != inner.own)
            && declare_dead(store, node, &seen, inner.own, inner.wall()).await?
        {
            inner.context.metrics.deaths.inc();
            let name = view.row(node).map(|row| row.name.clone()).unwrap_or_default();
            inner.notice(Notice::NodeDied { node, name, by: inner.own });
            inner.wakes.look.notify_one();
            return Ok(());
        }
        order_drain(store, node).await?;
        if node == inner.own {
            inner.intent.send_replace(Intent::Drain);
            inner.wakes.renew.notify_one();
        }
        Ok(())
    }

    /// Returns every node that is not dead, as the store and this node's own observation show it.
    ///
    /// # Errors
    /// The store's.
    pub async fn status(&self) -> Result<Vec<NodeStatus>, Error> {
        let inner = self.inner();
        let view = View::take(&inner.context.store).await?;
        let wire = inner.service.get().and_then(|Service { wire, .. }| wire.as_ref());
        let heard = wire.map(|wire| wire.heard());
        let spoken = wire.map(|wire| wire.spoken()).unwrap_or_default();
        let mut shards = BTreeMap::<Incarnation, usize>::new();
        for owner in view.shards.iter().flatten().filter_map(|row| row.owner) {
            *shards.entry(owner).or_default() += 1;
        }
        let out = view.nodes.keys().map(|node| {
            let alive = heard.as_ref().filter(|_| *node != inner.own);
            NodeStatus {
                shards: shards.get(node).copied().unwrap_or_default(),
                alive: alive.map(|heard| heard.get(node).copied().unwrap_or(false)),
                protocol: spoken.get(node).copied(),
                ..inner.describe(&view, *node)
            }
        });
        Ok(out.collect())
    }
}

impl Inner {
    fn describe(&self, view: &View, node: Incarnation) -> NodeStatus {
        let (now, wall) = (self.now(), self.wall());
        let eyes = self.eyes();
        let age = eyes.observer.age(node, now).unwrap_or_default();
        let median = eyes.skew_ms(view, Some(self.own), wall, now).saturating_neg();
        let ahead = if node == self.own { Some(0) } else { eyes.clocks.ahead_ms(node, wall, now) };
        let row = view.row(node);
        let applied = row.map_or(0, |row| row.applied.0);
        NodeStatus {
            name: row.map(|row| row.name.clone()).unwrap_or_default(),
            incarnation: node,
            state: row.map(|row| row.state).unwrap_or_default(),
            shards: 0,
            lease_age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            lease_ms: row.map_or(0, |row| row.lease_ms),
            behind: view.rights.0.saturating_sub(applied),
            load: row.map(|row| row.load).unwrap_or_default(),
            version: row.map(|row| row.version.clone()).unwrap_or_default(),
            endpoint: row.map(|row| row.endpoint.clone()).unwrap_or_default(),
            locality: row.map(|row| row.locality.clone()).unwrap_or_default(),
            skew_ms: ahead.map(|ahead| ahead.saturating_sub(median)),
            alive: None,
            damaged: row.is_none(),
            protocol: None,
        }
    }
}

/// Orders a node to drain; it finds the order with its next renewal.
async fn order_drain(store: &Store, node: Incarnation) -> Result<(), Error> {
    store
        .run(move |tx| {
            Box::pin(async move {
                if tx.find::<NodeRow>(TenantId::PLATFORM, &node).await?.is_none() {
                    return Ok(());
                }
                let order = Setting { value: MemberState::Draining.name().to_owned() };
                tx.put(TenantId::PLATFORM, &drain_order(node), &order).await?;
                tx.tell_cluster()
            })
        })
        .await
}
