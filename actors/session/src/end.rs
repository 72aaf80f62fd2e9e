use std::sync::Arc;

use aesp_audit::Event;
use aesp_cluster::Fence;
use aesp_proto::{PrincipalId, SessionId, TenantId, Timestamp, v1::EventType};
use aesp_storage::Transaction;
use tracing::warn;

use crate::{
    Error, Origin, Sessions,
    actor::Message,
    info::KEEP,
    live::Live,
    rows::{Due, DueRow, SessionKey, SessionRow, Status},
};

/// Whose sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of a tenant.
    Tenant(TenantId),
    /// Those of one principal.
    Principal(TenantId, PrincipalId),
}

impl Scope {
    fn tenant(self) -> TenantId {
        let (Self::Tenant(tenant) | Self::Principal(tenant, _)) = self;
        tenant
    }

    fn covers_active(self, row: &SessionRow) -> bool {
        row.status == Status::Active && self.covers(row.principal)
    }

    fn covers(self, principal: PrincipalId) -> bool {
        match self {
            Self::Tenant(_) => true,
            Self::Principal(_, own) => own == principal,
        }
    }
}

/// How sessions end, in the record and in the row.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) status: Status,
    pub(crate) action: &'static str,
    pub(crate) reason: String,
    /// Only those whose time has come.
    pub(crate) expired_by: Option<Timestamp>,
    pub(crate) origin: Origin,
    /// The metric's label.
    pub(crate) label: &'static str,
}

/// Sessions that end in one commit.
const BATCH: usize = 100;

impl Sessions {
    /// Ends the session. Refused while calls run in it, unless forced: then they are cancelled. Returns how many ran. Goes to
    /// its end also if the caller stops waiting.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it does not live, [`Error::CallsRunning`], or those of the record.
    pub async fn destroy(
        &self,
        tenant: TenantId,
        session: SessionId,
        force: bool,
        origin: Origin,
    ) -> Result<usize, Error> {
        let (_, running) = self.ask(tenant, session, |reply| Message::Destroy { force, reply }).await?;
        let running = running?;
        let ending = Ending {
            status: Status::Destroyed,
            action: "session.destroy",
            reason: if force { "forced".into() } else { String::new() },
            expired_by: None,
            origin,
            label: "destroyed",
        };
        let sessions = self.clone();
        let stored = tokio::spawn(async move {
            let ended = sessions.end(tenant, vec![session], ending).await;
            if ended.is_err() {
                // One that is gone has forgotten that it was ending.
                sessions.tell(tenant, session, Message::EndFailed);
            }
            ended
        });
        // What another has ended meanwhile has ended as well.
        stored.await??;
        Ok(running)
    }

    /// Ends every session of the scope in this node's shards and cancels the calls that run in them; those in memory are
    /// cancelled first, the store comes after. Returns how many ended.
    ///
    /// # Errors
    /// Those of the record; then some may not have ended, and asking again ends them.
    pub async fn end_all(&self, scope: Scope, reason: &str, origin: Origin) -> Result<usize, Error> {
        self.cancel_all(scope);
        let tenant = scope.tenant();
        let ending = Ending {
            status: Status::Destroyed,
            action: "session.revoke",
            reason: reason.to_owned(),
            expired_by: None,
            origin,
            label: "revoked",
        };
        match self.end_stored(scope, &ending).await {
            Err(error) if error.is_key_destroyed() => {
                // The tenant was deleted: no row can be read, so none can be activated either.
                for (id, live) in self.live_of(scope) {
                    drop(live);
                    self.tell_end(tenant, id);
                }
                Ok(0)
            }
            ended => ended,
        }
    }

    /// Cancels the calls that run in the scope's sessions, which live on.
    pub fn cancel_all(&self, scope: Scope) {
        for (_, live) in self.live_of(scope) {
            // One that is gone has cancelled them.
            let _ = live.handle.tell(Message::CancelAll);
        }
    }

    /// Tells whether a session of the scope lives, on any node.
    ///
    /// # Errors
    /// The store's.
    pub async fn any_lives(&self, scope: Scope) -> Result<bool, Error> {
        let mut cursor = None;
        loop {
            let rows = match self.page(scope.tenant(), cursor, 1_000).await {
                Err(error) if error.is_key_destroyed() => return Ok(false),
                rows => rows?,
            };
            let Some(last) = rows.last().map(|row| row.id) else { return Ok(false) };
            if rows.iter().any(|row| scope.covers_active(row)) {
                return Ok(true);
            }
            cursor = Some(last);
        }
    }

    async fn end_stored(&self, scope: Scope, ending: &Ending) -> Result<usize, Error> {
        let (mut cursor, mut ended) = (None, 0);
        loop {
            let rows = self.page(scope.tenant(), cursor, 1_000).await?;
            let Some(last) = rows.last().map(|row| row.id) else { return Ok(ended) };
            cursor = Some(last);
            // Those of other nodes' shards are ended by their owners, who are asked by the caller.
            let here = |id: SessionId| self.0.context.shards.fence(id.as_bytes()).is_ok();
            let own = rows.iter().filter(|row| scope.covers_active(row) && here(row.id));
            let own: Vec<_> = own.map(|row| row.id).collect();
            for batch in own.chunks(BATCH) {
                ended += self.end(scope.tenant(), batch.to_vec(), ending.clone()).await?;
            }
        }
    }

    /// Ends these sessions in one commit, and tells their actors. Returns how many lived.
    pub(crate) async fn end(
        &self,
        tenant: TenantId,
        sessions: Vec<SessionId>,
        ending: Ending,
    ) -> Result<usize, Error> {
        let context = &self.0.context;
        let tenancy = self.tenancy(tenant);
        let now = self.now();
        let mut plan = Vec::with_capacity(sessions.len());
        for session in sessions {
            let kind = (EventType::SessionDestroyed, ending.action);
            let event = ending.origin.event(&context.entropy, (tenant, session), kind, &ending.reason);
            plan.push((session, context.shards.fence(session.as_bytes())?, event));
        }
        let (plan, how) = (Arc::new(plan), ending.clone());
        let recorded = context.recorder.record_for(tenant, move |tx| {
            let (plan, how) = (plan.clone(), how.clone());
            Box::pin(async move { end_rows(tx, tenant, &plan, &how, now).await })
        });
        let ended: Vec<SessionId> = recorded.await?;
        let label = context.metrics.ended.with_label_values(&[ending.label]);
        label.inc_by(u64::try_from(ended.len()).unwrap_or(0));
        tenancy.due(now.plus(KEEP));
        for session in &ended {
            self.finish(tenant, *session).await;
        }
        Ok(ended.len())
    }

    /// Tells the session's actor that it ended. One that is being activated at this moment may have read the row before, so
    /// its activation is awaited.
    async fn finish(&self, tenant: TenantId, session: SessionId) {
        let held = self.0.live.cell((tenant, session));
        if held.is_some() && self.live(tenant, session).await.is_ok() {
            self.tell_end(tenant, session);
        }
    }

    /// INVARIANT R1: whoever asks when the end has returned hears of it, also before the actor has.
    fn tell_end(&self, tenant: TenantId, session: SessionId) {
        let cell = self.0.live.cell((tenant, session));
        if let Some(live) = cell.as_ref().and_then(|cell| cell.get()) {
            live.shared.end();
        }
        self.tell(tenant, session, Message::End);
    }

    fn tell(&self, tenant: TenantId, session: SessionId, message: Message) {
        let cell = self.0.live.cell((tenant, session));
        if let Some(live) = cell.as_ref().and_then(|cell| cell.get())
            && let Err(error) = live.handle.tell(message)
        {
            warn!(%tenant, %error, "session's actor not told of its end; it is gone");
        }
    }

    fn live_of(&self, scope: Scope) -> Vec<(SessionId, Live)> {
        let own = self.0.live.iter().filter(|entry| entry.key().0 == scope.tenant());
        let live = own.filter_map(|entry| Some((entry.key().1, entry.value().get()?.clone())));
        live.filter(|(_, live)| scope.covers(live.shared.principal())).collect()
    }
}

async fn end_rows(
    tx: &Transaction,
    tenant: TenantId,
    plan: &[(SessionId, Fence, Event)],
    how: &Ending,
    now: Timestamp,
) -> Result<(Vec<SessionId>, Vec<Event>), Error> {
    // A revocation must succeed on a full store too.
    tx.use_reserve();
    let (mut ended, mut events) = (Vec::new(), Vec::new());
    for (session, fence, event) in plan {
        fence.check(tx).await?;
        let key = SessionKey(*session);
        let Some(mut row) = tx.get::<SessionRow>(tenant, &key).await? else { continue };
        let due = how.expired_by.is_none_or(|now| row.expires_at <= now);
        if row.status != Status::Active || !due {
            continue;
        }
        tx.delete::<DueRow>(tenant, &Due::Expiry(row.expires_at, *session)).await?;
        tx.put(tenant, &Due::Purge(now.plus(KEEP), *session), &DueRow {}).await?;
        row.status = how.status;
        row.ended_at = Some(now);
        tx.put(tenant, &key, &row).await?;
        let mut event = event.clone();
        event.principal = event.principal.or(Some(row.principal));
        ended.push(*session);
        events.push(event);
    }
    Ok((ended, events))
}
