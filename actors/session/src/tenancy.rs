use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Scan, Store, encode};
use aesp_tenant::CountSessions;
use async_trait::async_trait;

use crate::{
    Error, Sessions,
    rows::{Due, DueRow},
};

/// What this node knows of the sessions of one tenant, besides those in memory.
#[derive(Debug)]
pub(crate) struct Tenancy {
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
    /// Returns what is known of a tenant's sessions. The first sweep of a new one finds out what is due when.
    pub(crate) fn tenancy(&self, tenant: TenantId) -> Arc<Tenancy> {
        if let Some(tenancy) = self.0.tenancies.get(&tenant) {
            return tenancy.clone();
        }
        let new = || Arc::new(Tenancy { next_due: AtomicI64::new(i64::MIN) });
        self.0.tenancies.entry(tenant).or_insert_with(new).clone()
    }

    /// Returns what is due for a tenant's sessions, the earliest first.
    pub(crate) async fn due(
        &self,
        tenant: TenantId,
        sort: &[u8],
        after: Option<Due>,
        limit: usize,
    ) -> Result<Vec<Due>, Error> {
        scan(&self.0.context.store, tenant, sort, after, limit).await
    }
}

async fn scan(
    store: &Store,
    tenant: TenantId,
    sort: &[u8],
    after: Option<Due>,
    limit: usize,
) -> Result<Vec<Due>, Error> {
    let after = after.map(|due| encode(&due));
    let scan = Scan { prefix: sort.to_vec(), after, limit, reverse: false };
    let run = store.run(move |tx| {
        let scan = scan.clone();
        Box::pin(async move { Ok::<_, Error>(tx.scan::<DueRow>(tenant, scan).await?) })
    });
    Ok(run.await?.into_iter().map(|(due, _)| due).collect())
}

/// Counts a tenant's sessions in the store, over all shards: one read of keys (the expiries, unsealed).
pub(crate) struct Stored(pub(crate) Store);

#[async_trait]
impl CountSessions for Stored {
    /// Expiries only ever move behind where they were, so a session that lives is not missed between two pages.
    async fn count(&self, tenant: TenantId) -> Result<u64, aesp_storage::Error> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = match scan(&self.0, tenant, &Due::EXPIRIES, after, PAGE).await {
                Ok(page) => page,
                Err(Error::Store(error)) => return Err(error),
                Err(_) => return Err(aesp_storage::Error::Timeout),
            };
            count += page.len() as u64;
            after = page.last().copied();
            if page.len() < PAGE {
                return Ok(count);
            }
        }
    }
}
