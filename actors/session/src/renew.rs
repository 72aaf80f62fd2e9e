use std::time::Duration;

use aesp_cluster::Fence;
use aesp_proto::{SessionId, TenantId, Timestamp, v1::EventType};
use aesp_storage::Transaction;

use crate::{
    Error, Origin, SessionInfo, Sessions,
    actor::Message,
    rows::{Due, DueRow, SessionKey, SessionRow, Status},
};

impl Sessions {
    /// Extends the session's life by its time to live, from now, but not beyond its tenant's longest.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it does not live, or those of the record.
    pub async fn renew(
        &self,
        tenant: TenantId,
        session: SessionId,
        origin: Origin,
    ) -> Result<SessionInfo, Error> {
        let context = &self.0.context;
        let fence = context.shards.fence(session.as_bytes())?;
        let tenancy = self.tenancy(tenant);
        let now = self.now();
        let event =
            origin.event(&context.entropy, (tenant, session), (EventType::SystemEvent, "session.renew"), "");
        let recorded = context.recorder.record_for(tenant, move |tx| {
            let event = event.clone();
            Box::pin(async move {
                Ok::<_, Error>((extend(tx, fence, (tenant, session), now).await?, vec![event]))
            })
        });
        let row: SessionRow = recorded.await?;
        tenancy.due(row.expires_at);
        let live = self.0.live.cell((tenant, session));
        if let Some(live) = live.as_ref().and_then(|cell| cell.get()) {
            // One that left memory reads the row when it comes back.
            let _ = live.handle.tell(Message::Renewed(row.expires_at));
        }
        Ok(SessionInfo::new(&row, 0, now))
    }
}

async fn extend(
    tx: &Transaction,
    fence: Fence,
    (tenant, session): (TenantId, SessionId),
    now: Timestamp,
) -> Result<SessionRow, Error> {
    fence.check(tx).await?;
    let key = SessionKey(session);
    let mut row = tx.get::<SessionRow>(tenant, &key).await?.ok_or(Error::Invalid)?;
    if row.status != Status::Active || now >= row.expires_at {
        return Err(Error::Invalid);
    }
    tx.delete::<DueRow>(tenant, &Due::Expiry(row.expires_at, session)).await?;
    let asked = now.plus(Duration::from_millis(row.ttl_ms)).min(row.latest_end);
    row.expires_at = row.expires_at.max(asked);
    tx.put(tenant, &Due::Expiry(row.expires_at, session), &DueRow {}).await?;
    tx.put(tenant, &key, &row).await?;
    Ok(row)
}
