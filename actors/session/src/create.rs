use std::{collections::BTreeMap, time::Duration};

use aesp_cluster::Fence;
use aesp_proto::{PrincipalId, Revision, SessionId, v1::EventType};
use aesp_storage::Transaction;
use aesp_tenant::{SessionSlot, Snapshot};

use crate::{
    Error, Origin, SessionInfo, Sessions,
    rows::{Due, DueRow, SessionKey, SessionRow, Status},
};

/// What a session starts with.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Whose it is, for life.
    pub principal: PrincipalId,
    /// Taken if this node owns it and nobody has had it; otherwise an id is drawn.
    pub suggested: Option<SessionId>,
    /// Its creator's notes: at most 64, each name and value at most 1,024 bytes.
    pub metadata: BTreeMap<String, String>,
    /// 1 second to 24 hours; the tenant's default if nothing.
    pub ttl: Option<Duration>,
}

const MAX_TTL: Duration = Duration::from_secs(86_400);
const MAX_METADATA: usize = 64;
const MAX_METADATA_BYTES: usize = 1_024;

/// What became of one attempt.
enum Stored {
    Yes,
    /// Another session has, or had, the id.
    Taken,
}

impl Sessions {
    /// Creates a session within the tenant's quota, and records it in the same commit. It is created also if the caller
    /// stops waiting.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::Tenant`] for a quota or a suspended tenant, [`Error::RightsChanged`] if the
    /// tenant's revision is no longer the snapshot's, or those of the record.
    pub async fn create(
        &self,
        tenant: &Snapshot,
        new: NewSession,
        origin: Origin,
    ) -> Result<SessionInfo, Error> {
        check(&new)?;
        let id = new.suggested.unwrap_or_else(|| SessionId::random(&self.0.context.entropy));
        if !self.0.context.shards.holds_any() {
            // Nothing can be stored here, whatever the quota says.
            self.0.context.shards.fence(id.as_bytes())?;
        }
        let slot = self.0.context.tenants.admit_session(tenant).await?;
        let now = self.now();
        let lifetime = tenant.config().session_lifetime();
        let ttl = new.ttl.unwrap_or_else(|| tenant.config().session_ttl()).min(lifetime);
        let row = SessionRow {
            id,
            tenant: tenant.id(),
            principal: new.principal,
            status: Status::Active,
            created_at: now,
            expires_at: now.plus(ttl),
            latest_end: now.plus(lifetime),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            ended_at: None,
            metadata: new.metadata,
        };
        let (sessions, revision) = (self.clone(), tenant.revision());
        tokio::spawn(async move { sessions.store_new(row, revision, origin, slot).await }).await?
    }

    async fn store_new(
        &self,
        row: SessionRow,
        revision: Revision,
        origin: Origin,
        slot: SessionSlot,
    ) -> Result<SessionInfo, Error> {
        let stored = self.store_under(row, revision, &origin).await;
        if let Err(Error::RightsChanged | Error::Elsewhere(_)) = stored {
            slot.unused();
        }
        // After any other failure it may be in the store; the next count tells.
        stored
    }

    async fn store_under(
        &self,
        mut row: SessionRow,
        revision: Revision,
        origin: &Origin,
    ) -> Result<SessionInfo, Error> {
        let context = &self.0.context;
        loop {
            match context.shards.fence(row.id.as_bytes()) {
                Ok(fence) => {
                    if let Stored::Yes = self.attempt(row.clone(), revision, origin, fence).await? {
                        self.tenancy(row.tenant).due(row.expires_at);
                        context.metrics.created.inc();
                        return Ok(SessionInfo::new(&row, 0, self.now()));
                    }
                }
                Err(elsewhere) if !context.shards.holds_any() => return Err(elsewhere.into()),
                Err(_) => {}
            }
            // Of another node's shard, or taken: draws until one is this node's and free.
            row.id = SessionId::random(&context.entropy);
        }
    }

    async fn attempt(
        &self,
        row: SessionRow,
        revision: Revision,
        origin: &Origin,
        fence: Fence,
    ) -> Result<Stored, Error> {
        let context = &self.0.context;
        let mut event = origin.event(
            &context.entropy,
            (row.tenant, row.id),
            (EventType::SessionCreated, "session.create"),
            "",
        );
        event.principal = event.principal.or(Some(row.principal));
        context
            .recorder
            .record_for(row.tenant, move |tx| {
                let (row, event) = (row.clone(), event.clone());
                Box::pin(async move {
                    Ok(match insert(tx, &row, revision, fence).await? {
                        Stored::Yes => (Stored::Yes, vec![event]),
                        Stored::Taken => (Stored::Taken, Vec::new()),
                    })
                })
            })
            .await
    }
}

async fn insert(
    tx: &Transaction,
    row: &SessionRow,
    revision: Revision,
    fence: Fence,
) -> Result<Stored, Error> {
    // INVARIANT R1: no session starts on rights that changed since it was permitted.
    if tx.revision(row.tenant).await? != revision {
        return Err(Error::RightsChanged);
    }
    fence.check(tx).await?;
    let key = SessionKey(row.id);
    if tx.get::<SessionRow>(row.tenant, &key).await?.is_some() {
        return Ok(Stored::Taken);
    }
    tx.put(row.tenant, &Due::Expiry(row.expires_at, row.id), &DueRow {}).await?;
    tx.put(row.tenant, &key, row).await?;
    Ok(Stored::Yes)
}

fn check(new: &NewSession) -> Result<(), Error> {
    if new.ttl.is_some_and(|ttl| ttl < Duration::from_secs(1) || ttl > MAX_TTL) {
        return Err(Error::InvalidRequest(format!("ttl_seconds must be 1 to {}", MAX_TTL.as_secs())));
    }
    let fits = |(name, value): (&String, &String)| name.len().max(value.len()) <= MAX_METADATA_BYTES;
    if new.metadata.len() > MAX_METADATA || !new.metadata.iter().all(fits) {
        return Err(Error::InvalidRequest(format!(
            "metadata has at most {MAX_METADATA} entries of at most {MAX_METADATA_BYTES} bytes"
        )));
    }
    Ok(())
}
