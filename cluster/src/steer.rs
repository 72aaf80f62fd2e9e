use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_proto::{Incarnation, ShardId, TenantId};
use aesp_storage::{Error, RightsPosition, SHARDS, ShardRow};
use bytes::Bytes;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender},
    time::{Instant, sleep},
};

use crate::{
    MemberState, Notice,
    cluster::{Inner, Intent},
    look::View,
    moves::{self, Ended, HandedOver},
    peer::Topic,
    placement::{Part, plan},
    rows::DeadRow,
};

/// How many shards leave at once, so that a node that joins takes up its share bit by bit.
const LEAVING_AT_ONCE: usize = 8;
/// How many shards are handed over in one commit: all, for those of a second commit wait for the first.
const COMMITTED_AT_ONCE: usize = SHARDS as usize;
/// How long a commit waits for further shards. Those without a call, which are most, end within less.
const GATHERED: Duration = Duration::from_millis(2);
/// How often what everybody has seen is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// How long the end of a node is remembered.
const DEAD_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How many of the dead are forgotten at once.
const FORGOTTEN_AT_ONCE: usize = 1_000;
/// After how long without a link a living node is told of.
const UNREACHABLE: Duration = Duration::from_secs(10);

/// While barriers wait, the store is looked at so often in the length of a lease.
const BARRIER_LOOKS: u32 = 8;

/// What steering remembers.
struct Steering {
    /// How often this node's own renewal had been late.
    late: u64,
    /// The nodes without a link, since when, and whether that was told.
    unlinked: BTreeMap<Incarnation, (Duration, bool)>,
    /// How many rows made no sense.
    damaged: usize,
    swept: Duration,
    ended: UnboundedSender<Ended>,
}

impl Inner {
    /// Takes looks when somebody asks for one.
    pub(crate) async fn keep_looking(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.wakes.look.notified() => {}
                () = self.barriers_look() => {}
            }
            match View::take(&self.context.store).await {
                Ok(view) => self.publish(view),
                Err(error) => tracing::warn!(%error, "the cluster's rows can't be read"),
            }
        }
    }

    /// Returns when barriers that wait should see the store again.
    async fn barriers_look(&self) {
        let mut waiting = self.waiting.subscribe();
        // The sender lives in `self`, so the wait ends with the value only.
        waiting.wait_for(|waiting| *waiting > 0).await.ok();
        sleep(self.options.lease / BARRIER_LOOKS).await;
    }

    fn publish(&self, view: View) {
        self.eyes().see(&view, self.now());
        let peers = view.peers();
        self.peers.send_if_modified(|known| {
            let changed = known[..] != peers[..];
            *known = peers;
            changed
        });
        for state in MemberState::ALL {
            let count = view.rows().filter(|(_, row)| row.state == state).count();
            let gauge = self.context.metrics.nodes.with_label_values(&[state.name()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.views.send_replace(Arc::new(view));
    }

    /// Makes the cluster what it should be, look by look, as far as this node may.
    pub(crate) async fn steer(
        self: Arc<Self>,
        ended: UnboundedSender<Ended>,
        mut hand_overs: UnboundedReceiver<Ended>,
    ) {
        let mut steering = Steering {
            late: self.late.load(Ordering::SeqCst),
            unlinked: BTreeMap::new(),
            damaged: 0,
            swept: self.now(),
            ended,
        };
        let mut views = self.views.subscribe();
        views.mark_changed();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                1.. = hand_overs.recv_many(&mut batch, COMMITTED_AT_ONCE) => {
                    sleep(GATHERED).await;
                    while batch.len() < COMMITTED_AT_ONCE && let Ok(ended) = hand_overs.try_recv() {
                        batch.push(ended);
                    }
                    self.commit_hand_overs(&steering, std::mem::take(&mut batch)).await;
                }
                Ok(()) = views.changed() => {
                    let view = Arc::clone(&views.borrow_and_update());
                    self.consider(&mut steering, &view).await;
                }
            }
        }
    }

    async fn consider(self: &Arc<Self>, steering: &mut Steering, view: &View) {
        self.read_clocks(view);
        let rows = view.shards.iter().zip((0..).map(ShardId));
        let able = self.change(|holdings| {
            // An own row that is seen late may be old, but it can only have changed by this node's own hand, and that is known.
            if self.lease.is_held() {
                holdings.enable();
            }
            let mut changes = Vec::new();
            for (row, shard) in rows {
                match *row {
                    Some(row) => changes.extend(holdings.see([(shard, row)])),
                    None => changes.extend(holdings.hide(shard)),
                }
            }
            (changes, holdings.is_able())
        });
        self.tell_damage(steering, view);
        self.tell_unreachable(steering, view);
        if !able {
            return;
        }
        self.bury_the_silent(steering, view).await;
        self.place(steering, view).await;
        self.sweep(steering, view).await;
    }

    /// Compares this node's clock with the members'.
    fn read_clocks(&self, view: &View) {
        let own = (*self.intent.borrow() != Intent::Join).then_some(self.own);
        let ms = self.eyes().skew_ms(view, own, self.wall(), self.now());
        self.context.metrics.skew_ms.set(ms);
        let was = *self.skew.borrow();
        let skew = was.judged(ms, self.options.skew, self.now(), self.options.lease);
        let off = skew.off;
        self.skew.send_replace(skew);
        if off != was.off {
            let notice =
                if off { Notice::ClockSkewed { skew_ms: ms } } else { Notice::ClockRight { skew_ms: ms } };
            self.notice(notice);
            self.wakes.renew.notify_one();
        }
    }

    fn tell_damage(&self, steering: &mut Steering, view: &View) {
        let nodes = view.nodes.iter().filter(|(_, node)| node.row.is_none());
        let shards = view.shards.iter().zip(0..).filter(|(row, _)| row.is_none());
        let damaged: Vec<String> = nodes
            .map(|(node, _)| format!("lease of node {node}"))
            .chain(shards.map(|(_, shard): (_, u16)| format!("shard {shard}")))
            .collect();
        self.context.metrics.damaged_rows.set(i64::try_from(damaged.len()).unwrap_or(i64::MAX));
        if damaged.len() > steering.damaged {
            for what in &damaged {
                self.notice(Notice::RowDamaged { what: what.clone() });
            }
        }
        steering.damaged = damaged.len();
    }

    /// Tells of nodes that live but have no link: nothing is decided by it, and calls to them fail.
    fn tell_unreachable(&self, steering: &mut Steering, view: &View) {
        let Some(wire) = self.service.get().and_then(|service| service.wire.as_ref()) else { return };
        let (now, connected) = (self.now(), wire.connected());
        let unlinked = |node: Incarnation| node != self.own && !connected.contains(&node);
        steering.unlinked.retain(|node, _| view.nodes.contains_key(node) && unlinked(*node));
        for (node, row) in view.rows().filter(|(node, _)| unlinked(*node)) {
            let (since, told) = steering.unlinked.entry(node).or_insert((now, false));
            if !*told && now.saturating_sub(*since) > UNREACHABLE {
                *told = true;
                self.notice(Notice::NodeUnreachable { node, name: row.name.clone() });
            }
        }
    }

    /// Declares dead who has not renewed its lease for too long.
    async fn bury_the_silent(&self, steering: &mut Steering, view: &View) {
        // In this order: a renewal that was late says so before it extends the lease.
        if !self.lease.is_held() {
            return;
        }
        let late = self.late.load(Ordering::SeqCst);
        let silent = {
            let (mut eyes, now) = (self.eyes(), self.now());
            if std::mem::replace(&mut steering.late, late) != late {
                eyes.observer.restart(now);
            }
            eyes.observer.silent(now)
        };
        for (node, seen) in silent.into_iter().filter(|(node, _)| *node != self.own) {
            match moves::declare_dead(&self.context.store, node, &seen, self.own, self.wall()).await {
                Ok(true) => {
                    self.context.metrics.deaths.inc();
                    let name = view.row(node).map(|row| row.name.clone()).unwrap_or_default();
                    self.notice(Notice::NodeDied { node, name, by: self.own });
                    self.wakes.look.notify_one();
                }
                // It has renewed its lease after all, or another node was faster.
                Ok(false) => self.wakes.look.notify_one(),
                Err(error) => tracing::warn!(%node, %error, "a silent node can't be declared dead"),
            }
        }
    }

    /// Takes what is free and this node's share, and begins to hand over what is not.
    async fn place(self: &Arc<Self>, steering: &mut Steering, view: &View) {
        let part = match view.row(self.own).map(|row| row.state) {
            Some(MemberState::Serving) => Part::Member,
            Some(MemberState::Draining) if *self.intent.borrow() == Intent::Drain => Part::GivingUp,
            Some(MemberState::Draining) => Part::Leaving,
            _ => return,
        };
        let members = view.members(&self.eyes().observer, self.now());
        let plan = plan(self.own, part, &members, &view.placed());
        let taken = plan.take.is_empty() || self.take(&plan.take).await;
        self.settled.fetch_or(taken && part == Part::Member, Ordering::SeqCst);
        // A long call in one shard must not keep the others from leaving a node that drains.
        let most = if part == Part::Member { LEAVING_AT_ONCE } else { usize::from(SHARDS) };
        let leaving = self.change(|holdings| {
            let mut leaving = Vec::new();
            for (shard, to) in plan.hand_over {
                if holdings.leaving() >= most {
                    break;
                }
                leaving.extend(holdings.leave(shard).map(|epoch| Ended { shard, epoch, to }));
            }
            (Vec::new(), leaving)
        });
        for shard in leaving {
            self.spawn(Arc::clone(self).end_shard(shard, steering.ended.clone()));
        }
    }

    async fn take(self: &Arc<Self>, shards: &[ShardId]) -> bool {
        let taken = match moves::take(&self.context.store, self.own, shards).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, shards = shards.len(), "free shards can't be taken");
                return false;
            }
        };
        let mut from = BTreeMap::<Option<Incarnation>, usize>::new();
        for taken in &taken {
            *from.entry(taken.from).or_default() += 1;
        }
        self.context.metrics.taken.inc_by(u64::try_from(taken.len()).unwrap_or(u64::MAX));
        self.change(|holdings| (holdings.see(taken.iter().map(|taken| (taken.shard, taken.row))), ()));
        for (from, count) in from {
            self.notice(Notice::ShardsTaken { from, count });
        }
        self.hint(taken.iter().map(|taken| (taken.shard, taken.row)));
        true
    }

    /// Ends what runs in a shard that leaves.
    async fn end_shard(self: Arc<Self>, leaving: Ended, ended: UnboundedSender<Ended>) {
        let Some(service) = self.service.get() else { return };
        let began = Instant::now();
        let Ended { shard, epoch, .. } = leaving;
        let _turn = self.chains[usize::from(shard.0)].lock().await;
        if self.holdings().has(shard, epoch) {
            service.duties.hand_over(shard, self.options.grace).await;
        }
        if self.holdings().ended(shard, epoch) {
            self.context.metrics.handover_seconds.observe(began.elapsed().as_secs_f64());
            // Steering ends with the node only.
            ended.send(leaving).ok();
        }
    }

    async fn commit_hand_overs(self: &Arc<Self>, steering: &Steering, batch: Vec<Ended>) {
        let batch: Vec<Ended> = {
            let mut holdings = self.holdings();
            batch.into_iter().filter(|ended| holdings.ended(ended.shard, ended.epoch)).collect()
        };
        match moves::hand_over(&self.context.store, self.own, &batch).await {
            Ok(HandedOver { moved, stay }) => {
                self.change(|holdings| {
                    let mut changes = holdings.see(moved.iter().copied());
                    changes.extend(stay.iter().filter_map(|(shard, epoch)| holdings.keep(*shard, *epoch)));
                    (changes, ())
                });
                self.context.metrics.handed_over.inc_by(u64::try_from(moved.len()).unwrap_or(u64::MAX));
                let mut to = BTreeMap::<Option<Incarnation>, usize>::new();
                for (_, row) in &moved {
                    *to.entry(row.owner).or_default() += 1;
                }
                for (to, count) in to {
                    self.notice(Notice::ShardsHandedOver { to, count });
                }
                self.hint(moved);
                self.wakes.look.notify_one();
            }
            Err(error) => {
                tracing::warn!(%error, shards = batch.len(), "shards can't be handed over yet");
                let (pause, ended) = (self.options.lease / 8, steering.ended.clone());
                self.spawn(async move {
                    sleep(pause).await;
                    for shard in batch {
                        // Steering ends with the node only.
                        ended.send(shard).ok();
                    }
                });
            }
        }
    }

    /// Lets the others look at the store now. They believe that alone; what moved travels along for people who trace it.
    fn hint(&self, moved: impl IntoIterator<Item = (ShardId, ShardRow)>) {
        let Some(wire) = self.service.get().and_then(|service| service.wire.as_ref()) else { return };
        let payload: Vec<u8> = moved
            .into_iter()
            .flat_map(|(shard, row)| {
                let owner = row.owner.map_or(0, |owner| owner.0);
                [&shard.0.to_be_bytes()[..], &owner.to_be_bytes(), &row.epoch.0.to_be_bytes()].concat()
            })
            .collect();
        if !payload.is_empty() {
            wire.tell_all(Topic::Handover, Bytes::from(payload));
        }
    }

    /// Forgets changes of rights that everybody has applied, and the long dead. The oldest node does it.
    async fn sweep(&self, steering: &mut Steering, view: &View) {
        let now = self.now();
        if now.saturating_sub(steering.swept) < HOUSEKEEPING || view.nodes.keys().next() != Some(&self.own) {
            return;
        }
        steering.swept = now;
        let applied = view.nodes.values().map(|node| node.row.as_ref().map(|row| row.applied));
        // Of a row that can't be read nobody knows where it is.
        let slowest: Option<RightsPosition> = applied.min().flatten();
        if let Err(error) = self.forget(slowest).await {
            tracing::warn!(%error, "what everybody has seen can't be forgotten yet");
        }
    }

    async fn forget(&self, slowest: Option<RightsPosition>) -> Result<(), Error> {
        let before = self.wall().0.saturating_sub(i64::try_from(DEAD_KEPT.as_millis()).unwrap_or(i64::MAX));
        self.context
            .store
            .run(move |tx| {
                Box::pin(async move {
                    if let Some(position) = slowest {
                        tx.prune_rights(position)?;
                    }
                    let dead = tx.glance_all::<DeadRow>(TenantId::PLATFORM).await?;
                    let old =
                        dead.iter().filter(|(_, found)| !matches!(&found.row, Ok(row) if row.at.0 >= before));
                    for (node, _) in old.take(FORGOTTEN_AT_ONCE) {
                        tx.delete::<DeadRow>(TenantId::PLATFORM, node).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}
