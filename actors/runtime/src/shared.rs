use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use aesp_proto::{ConnectionId, DispatchId, SessionId, TenantId};
use dashmap::DashMap;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::{Dispatch, RunningDispatch, Wiring, link::Link, lost::LostDispatches, table::Table};

/// How many results that nobody waits for are settled at once.
const SETTLING: usize = 64;

/// What the handle, the connections and the attempts share.
pub(crate) struct Shared {
    pub(crate) wiring: Wiring,
    pub(crate) links: DashMap<ConnectionId, Arc<Link>>,
    pub(crate) table: Table,
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
    link: Arc<Link>,
    tenant: TenantId,
    session: SessionId,
    invocation_id: String,
    depth: u32,
    progress: Progress,
}

/// How far a held dispatch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Running,
    /// Its caller has the end and decides what to record.
    Ended,
}

impl Shared {
    pub(crate) fn new(wiring: Wiring) -> Self {
        Self {
            wiring,
            links: DashMap::new(),
            table: Table::default(),
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
        let held = Held {
            link: Arc::clone(link),
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

    /// Tells how far the dispatch is, if anybody holds its attempt.
    pub(crate) fn is_held(&self, dispatch: DispatchId) -> bool {
        self.held.contains_key(&dispatch)
    }

    pub(crate) fn find(&self, dispatch: DispatchId) -> Option<RunningDispatch> {
        let held = self.held.get(&dispatch).filter(|held| held.progress == Progress::Running)?;
        Some(RunningDispatch {
            identity: Arc::clone(held.link.identity.get()?),
            tenant: held.tenant,
            session: held.session,
            invocation_id: held.invocation_id.clone(),
            depth: held.depth,
        })
    }

    /// Tells the Runtime, wherever it is connected now, that it may forget a result.
    pub(crate) fn acknowledge(&self, link: &Arc<Link>, dispatch: DispatchId) {
        if !link.closed.load(Ordering::Acquire) {
            return link.acknowledge(dispatch);
        }
        let Some(identity) = link.identity.get() else { return };
        for other in self.links.iter().filter(|other| other.is(identity)) {
            other.acknowledge(dispatch);
        }
    }

    /// Returns the connections that `wanted` chooses.
    pub(crate) fn select(&self, wanted: impl Fn(&Link) -> bool) -> Vec<Arc<Link>> {
        self.links.iter().filter(|link| wanted(link)).map(|link| Arc::clone(link.value())).collect()
    }

    /// Removes a connection that has ended.
    pub(crate) fn depart(&self, link: &Arc<Link>) {
        // One that ended in order has withdrawn its offers; then it is closed already.
        if !link.closed.swap(true, Ordering::AcqRel) {
            self.table.sweep(link);
        }
        self.links.remove(&link.id);
        self.departed.notify_waiters();
    }
}
