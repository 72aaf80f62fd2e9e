use aesp_cluster::Fence;
use aesp_proto::{SessionId, TenantId, Timestamp};
use aesp_storage::Transaction;

use crate::{
    Error, Origin, Sessions,
    actor::Message,
    end::Ending,
    outcome::purge_outcomes,
    rows::{Due, DueRow, SessionKey, SessionRow, Status},
};

/// Sessions that end, and outcomes that are removed, in one commit.
const BATCH: usize = 100;

impl Sessions {
    /// Ends the tenant's sessions whose time has come, and removes those that ended 24 hours ago with their outcomes.
    pub(crate) async fn sweep(&self, tenant: TenantId, now: Timestamp) -> Result<(), Error> {
        let tenancy = self.tenancy(tenant);
        if !tenancy.take_due(now) {
            return Ok(());
        }
        let swept = self.sweep_due(tenant, now).await;
        match &swept {
            Ok(next) => next.iter().for_each(|at| tenancy.due(*at)),
            // Tried again with the next sweep.
            Err(error) if !error.is_key_destroyed() => tenancy.due(now),
            // A deleted tenant: its rows can't be read by anybody, and expire nothing.
            Err(_) => return Ok(()),
        }
        swept.map(|_| ())
    }

    /// Returns when something is due next.
    async fn sweep_due(&self, tenant: TenantId, now: Timestamp) -> Result<Vec<Timestamp>, Error> {
        let mut next = Vec::new();
        let mut after = None;
        while let Some(due) = self.due_here(tenant, &Due::EXPIRIES, &mut after, now, &mut next).await? {
            let expired: Vec<_> = due.iter().map(|due| due.session()).collect();
            let ending = Ending {
                status: Status::Expired,
                action: "session.expire",
                reason: "its time to live is over".into(),
                expired_by: Some(now),
                origin: Origin::default(),
                label: "expired",
            };
            self.end(tenant, expired, ending).await?;
        }
        let mut after = None;
        while let Some(over) = self.due_here(tenant, &Due::PURGES, &mut after, now, &mut next).await? {
            for due in over {
                self.purge(tenant, due).await?;
            }
        }
        Ok(next)
    }

    /// Returns the next page of what is due at `now` for sessions of this node's shards, until there is none; then `next` has
    /// when the first of the others is due.
    async fn due_here(
        &self,
        tenant: TenantId,
        sort: &[u8],
        after: &mut Option<Due>,
        now: Timestamp,
        next: &mut Vec<Timestamp>,
    ) -> Result<Option<Vec<Due>>, Error> {
        let shards = &self.0.context.shards;
        let page = self.due(tenant, sort, *after, BATCH).await?;
        next.extend(page.iter().find(|due| due.at() > now).map(|due| due.at()));
        let due: Vec<_> = page.into_iter().take_while(|due| due.at() <= now).collect();
        let Some(last) = due.last() else { return Ok(None) };
        *after = Some(*last);
        // The others' owners see to theirs.
        let here = due.into_iter().filter(|due| shards.fence(due.session().as_bytes()).is_ok());
        Ok(Some(here.collect()))
    }

    /// Removes an ended session and its outcomes.
    async fn purge(&self, tenant: TenantId, due: Due) -> Result<(), Error> {
        let session = due.session();
        let fence = self.0.context.shards.fence(session.as_bytes())?;
        let store = &self.0.context.store;
        while store.run(move |tx| Box::pin(purge_some(tx, fence, tenant, session))).await? {}
        store.run(move |tx| Box::pin(purge_session(tx, fence, tenant, due))).await
    }

    /// Lets idle sessions leave memory.
    pub(crate) fn passivate(&self, now: Timestamp) {
        let options = self.0.options;
        for entry in self.0.live.iter() {
            if let Some(live) = entry.value().get()
                && live.shared.is_idle(now, options.idle)
            {
                // One that is gone has left already.
                let _ = live.handle.tell(Message::Passivate);
            }
        }
        let live = i64::try_from(self.0.live.len()).unwrap_or(i64::MAX);
        self.0.context.metrics.live.set(live);
    }
}

async fn purge_some(
    tx: &Transaction,
    fence: Fence,
    tenant: TenantId,
    session: SessionId,
) -> Result<bool, Error> {
    fence.check(tx).await?;
    purge_outcomes(tx, tenant, session, BATCH).await
}

async fn purge_session(tx: &Transaction, fence: Fence, tenant: TenantId, due: Due) -> Result<(), Error> {
    fence.check(tx).await?;
    tx.delete::<SessionRow>(tenant, &SessionKey(due.session())).await?;
    Ok(tx.delete::<DueRow>(tenant, &due).await?)
}
