use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Scan, encode};
use tokio::sync::OnceCell;

use crate::{
    Error, Sessions,
    rows::{Due, DueRow},
};

/// What this node knows of the sessions of one tenant, besides those in memory.
#[derive(Debug)]
pub(crate) struct Tenancy {
    counted: OnceCell<()>,
    /// When something is due at the earliest.
    next_due: AtomicI64,
}

const PAGE: usize = 10_000;

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
    /// They are counted once after the start of the node and not kept in a counter row: a count can't drift, needs no write
    /// that all of a tenant's sessions would share, and costs one read of keys (the expiries, unsealed) a tenant and start.
    pub(crate) async fn tenancy(&self, tenant: TenantId) -> Result<Arc<Tenancy>, Error> {
        let found = self.0.tenancies.get(&tenant).map(|tenancy| tenancy.clone());
        let tenancy = match found {
            Some(tenancy) => tenancy,
            None => {
                let new =
                    || Arc::new(Tenancy { counted: OnceCell::new(), next_due: AtomicI64::new(i64::MAX) });
                self.0.tenancies.entry(tenant).or_insert_with(new).clone()
            }
        };
        let count = || async {
            let count = self.count(tenant).await?;
            self.0.context.tenants.add_sessions(tenant, count);
            // The first sweep finds out what is due when.
            tenancy.due(Timestamp(i64::MIN));
            Ok::<_, Error>(())
        };
        tenancy.counted.get_or_try_init(count).await?;
        Ok(tenancy)
    }

    async fn count(&self, tenant: TenantId) -> Result<u32, Error> {
        let mut count = 0_usize;
        let mut after: Option<Due> = None;
        loop {
            let page = self.due(tenant, &Due::EXPIRIES, after, PAGE).await?;
            count += page.len();
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
