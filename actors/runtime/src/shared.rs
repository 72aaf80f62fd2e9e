use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use aesp_proto::{ConnectionId, DispatchId, SessionId, TenantId};
use dashmap::DashMap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::{
    Dispatch, Holder, RunningDispatch, Wiring, cluster::Cluster, dispatch::HeldBy, link::Link,
    lost::LostDispatches, table::Table,
};

/// How many results that nobody waits for are settled at once.
const SETTLING: usize = 64;

/// What the handle, the connections and the attempts share.
pub(crate) struct Shared {
    pub(crate) wiring: Wiring,
    pub(crate) links: DashMap<ConnectionId, Arc<Link>>,
    pub(crate) table: Table,
    pub(crate) cluster: Cluster,
    pub(crate) lost: LostDispatches,
    pub(crate) settling: Semaphore,
    /// What must be finished before the node ends.
    pub(crate) duties: TaskTracker,
    pub(crate) departed: Notify,
    pub(crate) leaving: AtomicBool,
    /// Every dispatch whose attempt is held.
    held: DashMap<DispatchId, Held>,
}

struct Held {
    at: HeldAt,
    tenant: TenantId,
    session: SessionId,
    invocation_id: String,
    depth: u32,
    progress: Progress,
}

enum HeldAt {
    Here(Arc<Link>),
    /// At another node, whose Runtime has this certificate identity.
    Elsewhere(watch::Receiver<Option<Arc<str>>>),
}

/// How far a held dispatch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Running,
    /// Its caller has the end and decides what to record.
    Ended,
}

/// A held dispatch that runs.
pub(crate) enum Found {
    Running(RunningDispatch),
    /// Another node has not said yet which Runtime has it.
    NotAccepted(watch::Receiver<Option<Arc<str>>>),
}

impl Shared {
    pub(crate) fn new(wiring: Wiring) -> Self {
        Self {
            wiring,
            links: DashMap::new(),
            table: Table::default(),
            cluster: Cluster::default(),
            lost: LostDispatches::default(),
            settling: Semaphore::new(SETTLING),
            duties: TaskTracker::new(),
            departed: Notify::new(),
            leaving: AtomicBool::new(false),
            held: DashMap::new(),
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(crate) fn hold(&self, dispatch: &Dispatch, link: &Arc<Link>) {
        self.hold_at(dispatch, HeldAt::Here(Arc::clone(link)));
    }

    pub(crate) fn hold_elsewhere(&self, dispatch: &Dispatch, identity: watch::Receiver<Option<Arc<str>>>) {
        self.hold_at(dispatch, HeldAt::Elsewhere(identity));
    }

    fn hold_at(&self, dispatch: &Dispatch, at: HeldAt) {
        let held = Held {
            at,
            tenant: dispatch.tenant,
            session: dispatch.session,
            invocation_id: dispatch.invocation_id.clone(),
            depth: dispatch.depth,
            progress: Progress::Running,
        };
        self.held.insert(dispatch.id, held);
    }

    pub(crate) fn ended(&self, dispatch: DispatchId) {
        if let Some(mut held) = self.held.get_mut(&dispatch) {
            held.progress = Progress::Ended;
        }
    }

    pub(crate) fn forget(&self, dispatch: DispatchId) {
        self.held.remove(&dispatch);
    }

    /// Tells whether anybody holds the dispatch's attempt.
    pub(crate) fn is_held(&self, dispatch: DispatchId) -> bool {
        self.held.contains_key(&dispatch)
    }

    pub(crate) fn find(&self, dispatch: DispatchId) -> Option<Found> {
        let held = self.held.get(&dispatch).filter(|held| held.progress == Progress::Running)?;
        let identity = match &held.at {
            HeldAt::Here(link) => Arc::clone(link.identity.get()?),
            HeldAt::Elsewhere(identity) => match &*identity.borrow() {
                Some(known) => Arc::clone(known),
                None => return Some(Found::NotAccepted(identity.clone())),
            },
        };
        Some(Found::Running(RunningDispatch {
            identity,
            tenant: held.tenant,
            session: held.session,
            invocation_id: held.invocation_id.clone(),
            depth: held.depth,
        }))
    }

    /// Tells whether anybody waits for a dispatch, here or for another node.
    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Returns who has a held dispatch.
    pub(crate) fn holder(&self, dispatch: DispatchId) -> Option<Holder> {
        let held = self.held.get(&dispatch)?;
        Some(Holder(match &held.at {
            HeldAt::Here(link) => HeldBy::Here(Arc::clone(link.identity.get()?)),
            HeldAt::Elsewhere(identity) => HeldBy::Elsewhere(identity.clone()),
        }))
    }

    /// Tells the Runtime, wherever it is connected to this node now, that it may forget a result.
    pub(crate) fn acknowledge(&self, link: &Arc<Link>, dispatch: DispatchId) {
        if !link.closed.load(Ordering::Acquire) {
            return link.acknowledge(dispatch);
        }
        if let Some(identity) = link.identity.get() {
            self.acknowledge_to(identity, dispatch);
        }
    }

    /// The same, as the node that made the dispatch tells it.
    pub(crate) fn acknowledge_at(&self, connection: ConnectionId, identity: &str, dispatch: DispatchId) {
        let link = self.links.get(&connection).map(|link| Arc::clone(&link));
        match link.filter(|link| link.is(identity)) {
            Some(link) => self.acknowledge(&link, dispatch),
            None => self.acknowledge_to(identity, dispatch),
        }
    }

    fn acknowledge_to(&self, identity: &str, dispatch: DispatchId) {
        for other in self.links.iter().filter(|other| other.is(identity)) {
            other.acknowledge(dispatch);
        }
    }

    /// Removes a connection that has ended.
    pub(crate) fn depart(&self, link: &Arc<Link>) {
        // One that ended in order has withdrawn its offers; then it is closed already.
        if !link.closed.swap(true, Ordering::AcqRel) {
            self.table.sweep(link);
        }
        self.links.remove(&link.id);
        self.cluster.touched();
        self.departed.notify_waiters();
    }
}
