use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Scan, encode};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    Error, Sessions,
    rows::{Due, DueRow},
};

/// What this node knows of the sessions of one tenant, besides those in memory.
#[derive(Debug)]
pub(crate) struct Tenancy {
    /// As of which move of shards, and when, the sessions were counted.
    counted: Mutex<Option<(u64, Instant)>>,
    /// When something is due at the earliest.
    next_due: AtomicI64,
}

const PAGE: usize = 10_000;
/// While shards move one after the other, sessions are counted at most so often.
const COUNT_EVERY: Duration = Duration::from_secs(1);

impl Tenancy {
    /// Says that something is due at this time.
    pub(crate) fn due(&self, at: Timestamp) {
        self.next_due.fetch_min(at.0, Ordering::AcqRel);
    }

    /// Tells whether something is due now, and forgets it: who sweeps says with [`Tenancy::due`] what is left.
    pub(crate) fn take_due(&self, now: Timestamp) -> bool {
        if self.next_due.load(Ordering::Acquire) > now.0 {
            return false;
        }
        // Before the sweep reads the store, so that what others add meanwhile is not lost.
        self.next_due.swap(i64::MAX, Ordering::AcqRel) <= now.0
    }
}

impl Sessions {
    /// Returns the tenancy after the sessions in the store were counted into the tenant's usage.
    ///
    /// Those of this node's shards are counted after its start and after shards moved, and not kept in a counter row: a count
    /// can't drift, needs no write that all of a tenant's sessions would share, and costs one read of keys (the expiries,
    /// unsealed) a tenant.
    pub(crate) async fn tenancy(&self, tenant: TenantId) -> Result<Arc<Tenancy>, Error> {
        let found = self.0.tenancies.get(&tenant).map(|tenancy| tenancy.clone());
        let tenancy = match found {
            Some(tenancy) => tenancy,
            None => {
                let new =
                    || Arc::new(Tenancy { counted: Mutex::new(None), next_due: AtomicI64::new(i64::MAX) });
                self.0.tenancies.entry(tenant).or_insert_with(new).clone()
            }
        };
        let mut counted = tenancy.counted.lock().await;
        // Before the count, so that a move meanwhile causes another.
        let moved = self.0.moved.load(Ordering::Acquire);
        let due = counted.is_none_or(|(at, when)| at != moved && when.elapsed() >= COUNT_EVERY);
        if due {
            let count = self.count(tenant).await?;
            self.0.context.tenants.set_sessions(tenant, count);
            *counted = Some((moved, Instant::now()));
            // The next sweep finds out what is due when.
            tenancy.due(Timestamp(i64::MIN));
        }
        drop(counted);
        Ok(tenancy)
    }

    async fn count(&self, tenant: TenantId) -> Result<u32, Error> {
        let mut count = 0_usize;
        let mut after: Option<Due> = None;
        loop {
            let page = self.due(tenant, &Due::EXPIRIES, after, PAGE).await?;
            let own = |due: &&Due| self.0.context.shards.fence(due.session().as_bytes()).is_ok();
            count += page.iter().filter(own).count();
            after = page.last().copied();
            if page.len() < PAGE {
                return Ok(u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
    }

    /// Returns what is due for a tenant's sessions, the earliest first.
    pub(crate) async fn due(
        &self,
        tenant: TenantId,
        sort: &[u8],
        after: Option<Due>,
        limit: usize,
    ) -> Result<Vec<Due>, Error> {
        let after = after.map(|due| encode(&due));
        let scan = Scan { prefix: sort.to_vec(), after, limit, reverse: false };
        let run = self.0.context.store.run(move |tx| {
            let scan = scan.clone();
            Box::pin(async move { Ok::<_, Error>(tx.scan::<DueRow>(tenant, scan).await?) })
        });
        Ok(run.await?.into_iter().map(|(due, _)| due).collect())
    }
}
