use std::{
    collections::BTreeSet,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use aesp_proto::{Incarnation, ShardId, Timestamp};
use aesp_storage::RightsPosition;
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Context, Distance, Duties, JoinError, Lease, Links, MemberState, Notice, Options, Ownership,
    eyes::Eyes,
    holdings::{Change, Holdings},
    look::View,
    peer::Peer,
    skew::Skew,
    steady::{BootTime, Steady},
    wire::Wire,
};

/// This node's part in its cluster. Cheap to clone; everything ends when the last clone is dropped.
#[derive(Clone)]
pub struct Cluster(Arc<Guarded>);

struct Guarded(Arc<Inner>);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

/// What comes from the machine, so that a simulation can be another one.
#[derive(Clone)]
pub(crate) struct Seams {
    pub(crate) steady: Arc<dyn Steady>,
    pub(crate) spawn: Spawn,
}

pub(crate) type Spawn = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

impl Default for Seams {
    fn default() -> Self {
        Self {
            steady: Arc::new(BootTime),
            spawn: Arc::new(|task| {
                tokio::spawn(task);
            }),
        }
    }
}

/// What this node wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Join,
    Serve,
    Drain,
}

/// What the node does for its cluster.
pub(crate) struct Service {
    pub(crate) duties: Arc<dyn Duties>,
    pub(crate) wire: Option<Arc<dyn Wire>>,
}

/// Wakes one task each.
#[derive(Default)]
pub(crate) struct Wakes {
    pub(crate) look: Notify,
    pub(crate) renew: Notify,
    pub(crate) apply: Notify,
    /// The lease was extended.
    pub(crate) leased: Notify,
}

pub(crate) struct Inner {
    pub(crate) context: Context,
    pub(crate) options: Options,
    pub(crate) own: Incarnation,
    pub(crate) id: String,
    /// What this node's row says that no other node's does, also not on a copy of the store.
    pub(crate) birth: String,
    pub(crate) seams: Seams,
    pub(crate) lease: Lease,
    pub(crate) ownership: Ownership,
    pub(crate) holdings: Mutex<Holdings>,
    /// One a shard: its duties come one after the other.
    pub(crate) chains: Vec<tokio::sync::Mutex<()>>,
    pub(crate) eyes: Mutex<Eyes>,
    pub(crate) peers: watch::Sender<Arc<[Peer]>>,
    pub(crate) views: watch::Sender<Arc<View>>,
    pub(crate) applied: watch::Sender<RightsPosition>,
    /// How many barriers wait.
    pub(crate) waiting: watch::Sender<usize>,
    pub(crate) intent: watch::Sender<Intent>,
    pub(crate) skew: watch::Sender<Skew>,
    /// How often this node's own renewal was late.
    pub(crate) late: AtomicU64,
    /// Whether everything that is this node's share and free has been taken once.
    pub(crate) settled: AtomicBool,
    pub(crate) wakes: Wakes,
    pub(crate) service: OnceLock<Service>,
    pub(crate) stop: CancellationToken,
}

impl Cluster {
    /// Joins the cluster of the store: takes an incarnation, writes its row as `joining`, and begins to renew it. The row comes
    /// first: whatever rights are loaded after this has returned are fresh enough, and changes from then on are applied by
    /// [`Duties::apply`] once the node serves.
    ///
    /// Waits up to 1.25 leases and a little for the end of a killed predecessor of the same name.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(context: Context, options: Options) -> Result<Self, JoinError> {
        Self::join_on(context, options, Seams::default()).await
    }

    pub(crate) fn begin(inner: Inner, beat: u64) -> Self {
        let inner = Arc::new(inner);
        inner.spawn(Arc::clone(&inner).keep_beating(beat));
        inner.spawn(Arc::clone(&inner).keep_looking());
        inner.spawn(Arc::clone(&inner).follow_changes());
        inner.spawn(Arc::clone(&inner).guard_lease());
        Self(Arc::new(Guarded(inner)))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Returns this node's incarnation.
    #[must_use]
    pub fn own(&self) -> Incarnation {
        self.inner().own
    }

    /// Returns the cluster's id, which was drawn when its first node joined.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner().id
    }

    /// Returns what this node wrote into its row when it joined, which proves to its peers that it uses the same store.
    #[must_use]
    pub fn birth(&self) -> &str {
        &self.inner().birth
    }

    /// Returns who owns which shard as this node sees it; nothing is its own before it serves.
    #[must_use]
    pub fn ownership(&self) -> Ownership {
        self.inner().ownership.clone()
    }

    /// Returns this node's lease; nothing is held before it serves.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.inner().lease.clone()
    }

    /// Returns the living nodes that have an endpoint, this one among them, and follows them. From the store's rows.
    #[must_use]
    pub fn nodes(&self) -> watch::Receiver<Arc<[Peer]>> {
        self.inner().peers.subscribe()
    }

    /// Returns the nodes that are not dead, this one among them. From the look that [`Cluster::ownership`] was made of, or a
    /// later one: whoever held anything of a shard's owner before is among them, or is dead.
    #[must_use]
    pub fn living(&self) -> BTreeSet<Incarnation> {
        self.inner().views.borrow().nodes.keys().copied().collect()
    }

    /// Returns how far another node is from this one, as its row says. A hint for who is asked first.
    #[must_use]
    pub fn distance(&self, to: Incarnation) -> Distance {
        let inner = self.inner();
        let there = inner.views.borrow().row(to).map(|row| row.locality.distance(&inner.options.locality));
        there.unwrap_or(Distance::Far)
    }

    /// Begins to serve: takes this node's share of the shards, applies changed rights, declares silent nodes dead. Called once,
    /// when the node can do its duties; later calls do nothing.
    pub fn serve(&self, duties: Arc<dyn Duties>, links: Option<Links>) {
        self.serve_over(duties, links.map(|links| Arc::new(links) as Arc<dyn Wire>));
    }

    pub(crate) fn serve_over(&self, duties: Arc<dyn Duties>, wire: Option<Arc<dyn Wire>>) {
        let inner = self.inner();
        if inner.service.set(Service { duties, wire }).is_err() {
            return;
        }
        inner.intent.send_if_modified(|intent| {
            let joining = *intent == Intent::Join;
            if joining {
                *intent = Intent::Serve;
            }
            joining
        });
        let (ended, hand_overs) = mpsc::unbounded_channel();
        inner.spawn(Arc::clone(inner).keep_applying());
        inner.spawn(Arc::clone(inner).follow_rights());
        inner.spawn(Arc::clone(inner).steer(ended, hand_overs));
        inner.wakes.renew.notify_one();
    }

    /// Tells whether the node is ready for clients: its lease is held, its clock is right, and it has its share of the shards
    /// (or drains).
    ///
    /// # Errors
    /// Why not, for people.
    pub fn ready(&self) -> Result<(), String> {
        self.inner().ready()
    }
}

impl Inner {
    /// Runs a task of the cluster. One that panics ends this incarnation: what it was to do, nobody does any more.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let inner = Arc::clone(self);
        (self.seams.spawn)(Box::pin(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!("a task of the cluster panicked; this node has to start again");
                inner.notice(Notice::TaskPanicked);
                inner.give_up();
            }
        }));
    }

    pub(crate) fn now(&self) -> Duration {
        self.seams.steady.now()
    }

    pub(crate) fn wall(&self) -> Timestamp {
        self.context.clock.now()
    }

    pub(crate) fn notice(&self, notice: Notice) {
        tracing::info!(?notice, "cluster");
        self.context.metrics.notices.with_label_values(&[notice.name()]).inc();
        self.context.notices.noticed(notice);
    }

    pub(crate) fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn eyes(&self) -> MutexGuard<'_, Eyes> {
        self.eyes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what this node tells of itself. One whose clock is off has others take its shards.
    pub(crate) fn state(&self) -> MemberState {
        match *self.intent.borrow() {
            Intent::Join => MemberState::Joining,
            Intent::Serve if !self.skew.borrow().off => MemberState::Serving,
            Intent::Serve | Intent::Drain => MemberState::Draining,
        }
    }

    fn ready(&self) -> Result<(), String> {
        let intent = *self.intent.borrow();
        if self.lease.is_over() {
            return Err("this node was declared dead; it has to start again".into());
        }
        if intent == Intent::Join {
            return Err("the node is joining".into());
        }
        if !self.lease.is_held() {
            return Err("the node's lease is not held: the store did not answer in time".into());
        }
        if let Some(trouble) = self.skew.borrow().trouble() {
            return Err(trouble);
        }
        if intent == Intent::Serve && !self.settled.load(std::sync::atomic::Ordering::SeqCst) {
            return Err("the node has not taken its shards yet".into());
        }
        Ok(())
    }

    /// Changes what is in this node's hands: first everybody can see it, then the duties hear of it.
    pub(crate) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Holdings) -> (Vec<Change>, T)) -> T {
        let (changes, out) = {
            let mut holdings = self.holdings();
            let (changes, out) = change(&mut holdings);
            let shards = holdings.shards();
            if shards[..] != self.ownership.shards()[..] {
                self.ownership.replace(shards);
            }
            self.context.metrics.shards.set(i64::try_from(holdings.count()).unwrap_or(i64::MAX));
            (changes, out)
        };
        let Some(Service { duties, .. }) = self.service.get() else { return out };
        // At once, and first: what arrives does so in tasks of its own, which look whether it is still there.
        let lost = changes.iter().filter_map(|change| match change {
            Change::Lose(shard) => Some(*shard),
            Change::Arrive(..) => None,
        });
        let lost: Vec<ShardId> = lost.collect();
        if !lost.is_empty() {
            duties.lose(&lost);
        }
        for change in changes {
            if let Change::Arrive(shard, epoch) = change {
                self.spawn(Arc::clone(self).arrive(shard, epoch));
            }
        }
        out
    }

    async fn arrive(self: Arc<Self>, shard: ShardId, epoch: aesp_proto::Epoch) {
        let Some(Service { duties, .. }) = self.service.get() else { return };
        let _turn = self.chains[usize::from(shard.0)].lock().await;
        if !self.holdings().holds(shard, epoch) {
            return;
        }
        duties.arrive(shard).await;
        self.context.metrics.arrived.inc();
        // It may have been lost meanwhile, and what has just begun must end all the same.
        if !self.holdings().has(shard, epoch) {
            duties.lose(&[shard]);
        }
    }

    /// Ends this incarnation, which is dead.
    pub(crate) fn give_up(self: &Arc<Self>) {
        if self.lease.end() {
            self.change(|holdings| (holdings.disable(), ()));
            self.notice(Notice::LeaseLost { for_ever: true });
        }
        self.stop.cancel();
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner();
        f.debug_struct("Cluster")
            .field("own", &inner.own)
            .field("name", &inner.options.name)
            .finish_non_exhaustive()
    }
}
