use std::sync::Arc;

use aesp_cluster::Fence;
use aesp_proto::{SessionId, TenantId};
use aesp_supervision::{Address, Handle};

use crate::{
    Depth, Error, Sessions,
    actor::{Arguments, Message, SessionActor},
    live::{Live, Shared, forget},
    rows::{SessionKey, SessionRow, Status},
};

impl Sessions {
    /// Returns the session's actor, starting it from its row if it is not in memory. Many who ask cause one activation.
    pub(crate) async fn live(&self, tenant: TenantId, session: SessionId) -> Result<Live, Error> {
        let key = (tenant, session);
        let found = self.0.live.cell(key);
        let cell = match found {
            Some(cell) => cell,
            None => self.0.live.beside(session).entry(key).or_default().clone(),
        };
        if let Some(live) = cell.get() {
            // INVARIANT S1: what was activated under an older epoch begins nothing any more.
            return match self.0.context.shards.fence(session.as_bytes()) {
                Ok(fence) if fence == live.fence => Ok(live.clone()),
                Ok(_) => {
                    self.leave(key, live);
                    Err(aesp_supervision::Error::Gone.into())
                }
                Err(elsewhere) => Err(elsewhere.into()),
            };
        }
        // In a box, as calls mostly find the session active.
        let activated = Box::pin(cell.get_or_try_init(|| self.activate(tenant, session)));
        let live = activated.await.cloned();
        if live.is_err() {
            // A session that can't be activated costs no memory.
            self.0
                .live
                .beside(session)
                .remove_if(&key, |_, held| Arc::ptr_eq(held, &cell) && !held.initialized());
        }
        if let Ok(found) = &live {
            // INVARIANT S1: the shard may have left while the session was activated.
            let fence = self.0.context.shards.fence(session.as_bytes());
            if fence != Ok(found.fence) {
                self.leave(key, found);
                return Err(fence.map_or_else(Into::into, |_| aesp_supervision::Error::Gone.into()));
            }
        }
        live
    }

    /// As [`Sessions::live`]. For what is nested nothing is activated while the shard leaves.
    pub(crate) async fn live_at(
        &self,
        tenant: TenantId,
        session: SessionId,
        depth: Depth,
    ) -> Result<Live, Error> {
        match self.live(tenant, session).await {
            Err(Error::Elsewhere(elsewhere)) if depth == Depth::Nested => {
                self.running(tenant, session).ok_or(Error::Elsewhere(elsewhere))
            }
            live => live,
        }
    }

    /// Returns the session's actor if it is in memory and this node may go on with what runs in it.
    pub(crate) fn running(&self, tenant: TenantId, session: SessionId) -> Option<Live> {
        let fence = self.0.context.shards.running_fence(session.as_bytes()).ok()?;
        let cell = self.0.live.cell((tenant, session))?;
        cell.get().filter(|live| live.fence == fence).cloned()
    }

    /// Sends a session out of memory that was activated under an older epoch.
    fn leave(&self, key: (TenantId, SessionId), live: &Live) {
        // One that is gone has left already.
        let _ = live.handle.tell(Message::Leave);
        forget(&self.0.live, key, &live.shared);
    }

    async fn activate(&self, tenant: TenantId, session: SessionId) -> Result<Live, Error> {
        let fence = self.0.context.shards.fence(session.as_bytes())?;
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
