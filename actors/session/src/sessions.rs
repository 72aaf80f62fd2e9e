use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use aesp_audit::Recorder;
use aesp_cluster::Ownership;
use aesp_proto::{Clock, Entropy, PrincipalId, SessionId, TenantId, v1::SessionStatus};
use aesp_storage::{Scan, Store, encode};
use aesp_supervision::{Mailbox, Supervisor};
use aesp_tenant::Tenants;
use dashmap::DashMap;

use crate::{
    Begin, Depth, Error, Joined, Metrics, Running, SessionInfo,
    actor::{Begun, Message},
    duty,
    info::SessionInfo as Info,
    live::{Live, LiveSessions, forget},
    rows::{SessionKey, SessionRow},
    tenancy::{Stored, Tenancy},
};

/// Everything that sessions need of the node.
#[derive(Clone)]
pub struct Context {
    /// Where they are stored.
    pub store: Store,
    /// Where their changes are recorded.
    pub recorder: Recorder,
    /// Who bounds their number.
    pub tenants: Tenants,
    /// Tells when they expire.
    pub clock: Arc<dyn Clock>,
    /// Draws their ids.
    pub entropy: Entropy,
    /// What this node owns.
    pub shards: Ownership,
    /// Keeps their duty alive and owns their actors.
    pub supervisor: Supervisor,
    /// Where they count.
    pub metrics: Metrics,
}

/// Bounds of sessions in memory. The default is right but for tests.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// After how long without use a session leaves memory.
    pub idle: Duration,
    /// How often expired and idle ones are looked for.
    pub sweep_every: Duration,
    /// Of each session's actor.
    pub mailbox: Mailbox,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            sweep_every: Duration::from_secs(1),
            mailbox: Mailbox::default(),
        }
    }
}

/// The sessions of this node. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) context: Context,
    pub(crate) options: Options,
    pub(crate) live: Arc<LiveSessions>,
    pub(crate) tenancies: DashMap<TenantId, Arc<Tenancy>>,
    /// Shards have come, perhaps with sessions of tenants that this node has not heard of.
    pub(crate) arrived: AtomicBool,
}

/// How often a request is sent to the next incarnation of a session's actor.
const ATTEMPTS: usize = 3;

impl Sessions {
    /// Starts the duty that expires, purges and passivates sessions.
    ///
    /// # Errors
    /// [`Error::Actor`] if the supervisor ended.
    pub async fn start(context: Context, options: Options) -> Result<Self, Error> {
        let supervisor = context.supervisor.clone();
        let live = Arc::new(LiveSessions::new());
        context.tenants.count_with(Arc::new(Stored(context.store.clone())));
        let sessions = Self(Arc::new(Inner {
            context,
            options,
            live,
            tenancies: DashMap::new(),
            arrived: AtomicBool::new(false),
        }));
        duty::start(&supervisor, sessions.clone()).await?;
        Ok(sessions)
    }

    /// Returns how many sessions are in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.0.live.len()
    }

    /// Returns a session that lives; reads the store only if it is not in memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none, or the store's.
    pub async fn get(
        &self,
        tenant: TenantId,
        session: SessionId,
        depth: Depth,
    ) -> Result<SessionInfo, Error> {
        let live = self.live_at(tenant, session, depth).await?;
        let now = self.now();
        live.shared.touch(now);
        let info = live.shared.info(now);
        if info.status == SessionStatus::Active { Ok(info) } else { Err(Error::Invalid) }
    }

    /// Tells whether a session lives at this moment: by its actor where it is in memory here, else by the store.
    ///
    /// # Errors
    /// The store's.
    pub async fn lives(&self, tenant: TenantId, session: SessionId) -> Result<bool, Error> {
        if let Some(live) = self.running(tenant, session) {
            return Ok(live.shared.lives(self.now()));
        }
        // In a box, as those who ask mostly find it in memory.
        match Box::pin(self.find(tenant, session)).await {
            Ok(found) => Ok(found.is_some_and(|info| info.status == SessionStatus::Active)),
            Err(error) if error.is_key_destroyed() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns a session that lives, or ended in the last 24 hours.
    ///
    /// # Errors
    /// The store's.
    pub async fn find(&self, tenant: TenantId, session: SessionId) -> Result<Option<SessionInfo>, Error> {
        let row = self.0.context.store.run(move |tx| Box::pin(read(tx, tenant, session))).await?;
        Ok(row.map(|row| self.info(&row)))
    }

    /// Returns up to `limit` sessions that live or ended in the last 24 hours, of the tenant or of one of its principals, and
    /// the cursor of the next page.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(
        &self,
        tenant: TenantId,
        principal: Option<PrincipalId>,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<(Vec<SessionInfo>, Option<SessionId>), Error> {
        let mut found = Vec::new();
        let mut cursor = after;
        loop {
            let rows = self.page(tenant, cursor, limit.clamp(100, 1_000)).await?;
            let Some(last) = rows.last().map(|row| row.id) else { return Ok((found, None)) };
            for row in rows {
                if principal.is_some_and(|principal| principal != row.principal) {
                    continue;
                }
                found.push(self.info(&row));
                if found.len() >= limit {
                    return Ok((found, Some(row.id)));
                }
            }
            cursor = Some(last);
        }
    }

    /// Begins a call for the session's principal: takes its invocation id, or joins the running call of the same id and
    /// digest. Reads the store only if the session is not in memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the session does not live or is not `principal`'s, [`Error::OtherArguments`], or the store's.
    pub async fn begin(
        &self,
        tenant: TenantId,
        session: SessionId,
        principal: PrincipalId,
        invocation: &str,
        digest: [u8; 32],
        depth: Depth,
    ) -> Result<Begin, Error> {
        let invocation: Arc<str> = invocation.into();
        let ask = move |reply| Message::Begin { principal, invocation: invocation.clone(), digest, reply };
        let (live, begun) = self.ask_at(tenant, session, depth, ask).await?;
        Ok(match begun? {
            Begun::New(started) => Begin::New(Running { session, fence: live.fence, started }),
            Begun::Join { over } => Begin::Join(Joined { over }),
        })
    }

    /// Signals a running call of the session that nobody wants it; tells whether one ran.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the session does not live, or the store's.
    pub async fn cancel(
        &self,
        tenant: TenantId,
        session: SessionId,
        invocation: &str,
    ) -> Result<bool, Error> {
        let invocation: Arc<str> = invocation.into();
        let ask = move |reply| Message::Cancel { invocation: invocation.clone(), reply };
        Ok(self.ask(tenant, session, ask).await?.1)
    }

    /// Asks the session's actor, activating it as needed. A request that an actor did not answer because it left memory had
    /// no effect, so it is sent again.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        tenant: TenantId,
        session: SessionId,
        message: impl Fn(aesp_supervision::Reply<T>) -> Message,
    ) -> Result<(Live, T), Error> {
        self.ask_at(tenant, session, Depth::Outermost, message).await
    }

    async fn ask_at<T: Send + 'static>(
        &self,
        tenant: TenantId,
        session: SessionId,
        depth: Depth,
        message: impl Fn(aesp_supervision::Reply<T>) -> Message,
    ) -> Result<(Live, T), Error> {
        for _ in 0..ATTEMPTS {
            let live = self.live_at(tenant, session, depth).await?;
            match live.handle.ask(&message).await {
                Ok(answer) => return Ok((live, answer)),
                Err(aesp_supervision::Error::Gone) => forget(&self.0.live, (tenant, session), &live.shared),
                Err(error) => return Err(error.into()),
            }
        }
        Err(aesp_supervision::Error::Gone.into())
    }

    pub(crate) async fn page(
        &self,
        tenant: TenantId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, Error> {
        let after = after.map(|id| encode(&SessionKey(id)));
        let scan = Scan { prefix: SessionKey::PREFIX.to_vec(), after, limit, reverse: false };
        let run = self.0.context.store.run(move |tx| {
            let scan = scan.clone();
            Box::pin(async move { Ok::<_, Error>(tx.scan::<SessionRow>(tenant, scan).await?) })
        });
        Ok(run.await?.into_iter().map(|(_, row)| row).collect())
    }

    fn info(&self, row: &SessionRow) -> Info {
        let now = self.now();
        let live = self.0.live.cell((row.tenant, row.id));
        let in_flight = live
            .as_ref()
            .and_then(|cell| cell.get())
            .map_or(0, |live| live.shared.in_flight.load(std::sync::atomic::Ordering::Relaxed));
        Info::new(row, in_flight, now)
    }

    pub(crate) fn now(&self) -> aesp_proto::Timestamp {
        self.0.context.clock.now()
    }
}

async fn read(
    tx: &aesp_storage::Transaction,
    tenant: TenantId,
    session: SessionId,
) -> Result<Option<SessionRow>, Error> {
    Ok(tx.get::<SessionRow>(tenant, &SessionKey(session)).await?)
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("live", &self.0.live.len()).finish_non_exhaustive()
    }
}
