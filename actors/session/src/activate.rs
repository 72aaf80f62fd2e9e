use std::sync::Arc;

use aesp_proto::{SessionId, TenantId};
use aesp_supervision::{Address, Handle};

use crate::{
    Error, Fence, Sessions,
    actor::{Arguments, SessionActor},
    live::{Live, Shared},
    rows::{SessionKey, SessionRow, Status},
};

impl Sessions {
    /// Returns the session's actor, starting it from its row if it is not in memory. Many who ask cause one activation.
    pub(crate) async fn live(&self, tenant: TenantId, session: SessionId) -> Result<Live, Error> {
        let key = (tenant, session);
        let found = self.0.live.get(&key).map(|cell| cell.clone());
        let cell = match found {
            Some(cell) => cell,
            None => self.0.live.entry(key).or_default().clone(),
        };
        if let Some(live) = cell.get() {
            return Ok(live.clone());
        }
        let live = cell.get_or_try_init(|| self.activate(tenant, session)).await.cloned();
        if live.is_err() {
            // A session that can't be activated costs no memory.
            self.0.live.remove_if(&key, |_, held| Arc::ptr_eq(held, &cell) && !held.initialized());
        }
        live
    }

    async fn activate(&self, tenant: TenantId, session: SessionId) -> Result<Live, Error> {
        let fence = self.0.context.shards.fence(session).ok_or(Error::Invalid)?;
        let run = self.0.context.store.run(move |tx| Box::pin(load(tx, fence, tenant, session)));
        let row = run.await.map_err(|error| if error.is_key_destroyed() { Error::Invalid } else { error })?;
        let now = self.now();
        let row = row.filter(|row| row.status == Status::Active && now < row.expires_at);
        self.spawn(row.ok_or(Error::Invalid)?, fence).await
    }

    async fn spawn(&self, row: SessionRow, fence: Fence) -> Result<Live, Error> {
        let context = &self.0.context;
        let key = (row.tenant, row.id);
        let shared = Arc::new(Shared::new(row, self.now()));
        let arguments = Arguments {
            key,
            shared: shared.clone(),
            sessions: self.0.live.clone(),
            clock: context.clock.clone(),
            idle: self.0.options.idle,
        };
        let spawned = context.supervisor.spawn("session", SessionActor, arguments).await;
        let actor = spawned.map_err(|_| aesp_supervision::Error::Gone)?;
        context.metrics.activations.inc();
        let handle = Handle::new(Address::temporary(actor), self.0.options.mailbox);
        Ok(Live { handle, shared, fence })
    }
}

async fn load(
    tx: &aesp_storage::Transaction,
    fence: Fence,
    tenant: TenantId,
    session: SessionId,
) -> Result<Option<SessionRow>, Error> {
    fence.check(tx).await?;
    Ok(tx.get::<SessionRow>(tenant, &SessionKey(session)).await?)
}
