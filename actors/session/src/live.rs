use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use aesp_cluster::Fence;
use aesp_proto::{PrincipalId, SessionId, ShardId, TenantId, Timestamp};
use aesp_storage::{SHARDS, shard_of};
use aesp_supervision::Handle;
use arc_swap::ArcSwap;
use dashmap::{DashMap, mapref::multiple::RefMulti};
use tokio::sync::{Notify, OnceCell};

use crate::{
    SessionInfo,
    actor::Message,
    rows::{SessionRow, Status},
};

/// The tenant is part of it, so that a stranger's question can't stand in the way of the owner's.
pub(crate) type Key = (TenantId, SessionId);
type Cells = DashMap<Key, Arc<OnceCell<Live>>>;

/// How many locks the sessions of one shard share: there are as many times more as there are shards.
const LOCKS_A_SHARD: usize = 2;

/// The sessions in memory, by shard: one that leaves costs what is in it.
#[derive(Debug)]
pub(crate) struct LiveSessions(Box<[Cells]>);

impl LiveSessions {
    pub(crate) fn new() -> Self {
        Self((0..SHARDS).map(|_| Cells::with_shard_amount(LOCKS_A_SHARD)).collect())
    }

    /// Returns those of the session's shard.
    pub(crate) fn beside(&self, session: SessionId) -> &Cells {
        self.within(shard_of(session.as_bytes()))
    }

    pub(crate) fn within(&self, shard: ShardId) -> &Cells {
        &self.0[usize::from(shard.0)]
    }

    /// Returns the session's cell, if there is one.
    pub(crate) fn cell(&self, key: Key) -> Option<Arc<OnceCell<Live>>> {
        self.beside(key.1).get(&key).map(|cell| cell.clone())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = RefMulti<'_, Key, Arc<OnceCell<Live>>>> {
        self.0.iter().flat_map(DashMap::iter)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(DashMap::len).sum()
    }
}

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
pub(crate) fn forget(live: &LiveSessions, key: Key, shared: &Arc<Shared>) {
    live.beside(key.1)
        .remove_if(&key, |_, cell| cell.get().is_some_and(|live| Arc::ptr_eq(&live.shared, shared)));
}
