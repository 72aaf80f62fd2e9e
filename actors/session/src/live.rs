use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use aesp_cluster::Fence;
use aesp_proto::{PrincipalId, SessionId, TenantId, Timestamp};
use aesp_supervision::Handle;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::{Notify, OnceCell};

use crate::{
    SessionInfo,
    actor::Message,
    rows::{SessionRow, Status},
};

/// The sessions in memory. The tenant is part of the key, so that a stranger's question can't stand in the way of the owner's.
pub(crate) type LiveSessions = DashMap<(TenantId, SessionId), Arc<OnceCell<Live>>>;

/// A session whose actor runs.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) handle: Handle<Message>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) fence: Fence,
}

/// What others may read without asking the actor.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) row: ArcSwap<SessionRow>,
    pub(crate) in_flight: AtomicU32,
    /// Told whenever a call has ended.
    pub(crate) ended: Notify,
    used_at: AtomicI64,
}

impl Shared {
    pub(crate) fn new(row: SessionRow, now: Timestamp) -> Self {
        Self {
            row: ArcSwap::from_pointee(row),
            in_flight: AtomicU32::new(0),
            ended: Notify::new(),
            used_at: AtomicI64::new(now.0),
        }
    }

    pub(crate) fn touch(&self, now: Timestamp) {
        self.used_at.store(now.0, Ordering::Relaxed);
    }

    pub(crate) fn is_idle(&self, now: Timestamp, idle: Duration) -> bool {
        let used_at = Timestamp(self.used_at.load(Ordering::Relaxed));
        self.in_flight.load(Ordering::Relaxed) == 0 && now.since(used_at) >= idle
    }

    pub(crate) fn info(&self, now: Timestamp) -> SessionInfo {
        SessionInfo::new(&self.row.load(), self.in_flight.load(Ordering::Relaxed), now)
    }

    /// Tells whether the session has not ended.
    pub(crate) fn lives(&self, now: Timestamp) -> bool {
        let row = self.row.load();
        row.status == Status::Active && now < row.expires_at
    }

    /// Says that the session has ended, to everybody who asks from now on.
    pub(crate) fn end(&self) {
        self.row.rcu(|row| SessionRow { status: Status::Destroyed, ..SessionRow::clone(row) });
    }

    pub(crate) fn principal(&self) -> PrincipalId {
        self.row.load().principal
    }
}

/// Takes this very incarnation out, and no later one.
pub(crate) fn forget(live: &LiveSessions, key: (TenantId, SessionId), shared: &Arc<Shared>) {
    live.remove_if(&key, |_, cell| cell.get().is_some_and(|live| Arc::ptr_eq(&live.shared, shared)));
}
