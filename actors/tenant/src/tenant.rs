use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_proto::{Incarnation, TenantId};
use tokio::{sync::Notify, time::Instant};

use crate::{
    counts::Limit,
    gate::Gate,
    holder::Holder,
    home::Home,
    message::{Newest, Report},
};

/// One tenant's limits on this node.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) gate: Arc<Gate>,
    /// The revision of the newest quotas that were seen, to be looked at without a lock.
    revision: AtomicU64,
    holder: Mutex<Holder>,
    seat: Mutex<Seat>,
    /// INVARIANT Q1: held while the ceilings are read or written, so that no home reads them and an earlier one of the same epoch
    /// writes them afterwards.
    pub(crate) store: tokio::sync::Mutex<()>,
    /// The home has answered.
    pub(crate) heard: Notify,
}

/// The tenant's home, if it is here.
#[derive(Default)]
pub(crate) enum Seat {
    #[default]
    Empty,
    /// It is about to begin in this epoch; these wait for it.
    Loading(u64, Vec<(Incarnation, Report)>),
    Taken(Box<Home>),
}

impl Tenant {
    pub(crate) fn new(id: TenantId, now: Instant) -> Self {
        Self {
            id,
            gate: Arc::new(Gate::new(now)),
            revision: AtomicU64::new(0),
            holder: Mutex::default(),
            seat: Mutex::default(),
            store: tokio::sync::Mutex::default(),
            heard: Notify::new(),
        }
    }

    pub(crate) fn holder(&self) -> MutexGuard<'_, Holder> {
        // Its numbers only grow, and a report tells of nothing but the gate: it is right wherever a panic left it.
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(|poisoned| {
            // Books that a panic left half written are not read again; the next home asks everybody.
            let mut seat = poisoned.into_inner();
            *seat = Seat::Empty;
            self.seat.clear_poison();
            seat
        })
    }

    /// Learns of quotas, unless it knows newer ones.
    pub(crate) fn learn(&self, newest: Newest) {
        if self.revision.load(Ordering::Acquire) < newest.revision.0 {
            self.holder().learn(newest, &self.gate);
            self.revision.fetch_max(newest.revision.0, Ordering::AcqRel);
        }
    }
}

/// Somebody who waits for credits, as long as this lives.
pub(crate) struct Waiting<'a> {
    tenant: &'a Tenant,
    pub(crate) limits: Vec<Limit>,
    pub(crate) since: u64,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(tenant: &'a Tenant, limits: Vec<Limit>, lasts: Duration) -> Self {
        let since = tenant.holder().wait_for(&limits, lasts);
        Self { tenant, limits, since }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.tenant.holder().waits_no_more(&self.limits);
    }
}
