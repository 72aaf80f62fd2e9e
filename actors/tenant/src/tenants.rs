use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use aesp_proto::TenantId;
use dashmap::DashMap;
use tokio::time::{Instant, timeout_at};

use crate::{
    CallSlot, CountSessions, Error, Peers, RuntimeSlot, SessionSlot, Snapshot, Wiring,
    counts::Limit,
    duty,
    gate::Gate,
    holder::{RESEND, Refused},
    message::Newest,
    tenant::{Tenant, Waiting},
};

/// How long an admission waits for the tenant's home.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon a place may be free again: calls end quickly, sessions and Runtimes don't.
const CALL_RETRY: Duration = Duration::from_millis(100);
const LONG_RETRY: Duration = Duration::from_secs(5);
/// When a home may have been found that was not there.
const UNKNOWN_RETRY: Duration = Duration::from_millis(500);

/// Admits calls, sessions and Runtimes within their tenant's quotas, which hold over the whole cluster. Cheap to clone.
#[derive(Clone)]
pub struct Tenants(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) wiring: Wiring,
    pub(crate) tenants: DashMap<TenantId, Arc<Tenant>>,
    /// When time begins, as far as homes tell it.
    pub(crate) base: Instant,
    /// How many homes have begun here.
    pub(crate) homes: AtomicU64,
    pub(crate) peers: OnceLock<Arc<dyn Peers>>,
    pub(crate) sessions: OnceLock<Arc<dyn CountSessions>>,
}

impl Tenants {
    /// Starts the duty that keeps homes and gives back what is not used.
    ///
    /// # Errors
    /// [`Error::Actor`] if the supervisor ended.
    pub async fn start(wiring: Wiring) -> Result<Self, Error> {
        let supervisor = wiring.supervisor.clone();
        let tenants = Self(Arc::new(Inner {
            wiring,
            tenants: DashMap::new(),
            base: Instant::now(),
            homes: AtomicU64::new(0),
            peers: OnceLock::new(),
            sessions: OnceLock::new(),
        }));
        duty::start(&supervisor, tenants.clone()).await?;
        Ok(tenants)
    }

    /// Says how other nodes are reached, once. Without, this node is alone.
    pub fn join(&self, peers: Arc<dyn Peers>) {
        // The first ones stay: a node has one place in its cluster.
        let _ = self.0.peers.set(peers);
    }

    /// Says how stored sessions are counted, once. Without, there are none.
    pub fn count_with(&self, sessions: Arc<dyn CountSessions>) {
        // All of a node's sessions are in one store.
        let _ = self.0.sessions.set(sessions);
    }

    /// Admits a call that takes at most so long, by the quotas of this snapshot or of a newer one that was seen. Waits only when
    /// this node holds no credits: two seconds at most, for the tenant's home.
    ///
    /// # Errors
    /// [`Error::Suspended`], [`Error::Deleted`], [`Error::QuotaExceeded`], [`Error::RateLimited`], or [`Error::LimitUnknown`].
    pub async fn admit_call(&self, snapshot: &Snapshot, lasts: Duration) -> Result<CallSlot, Error> {
        let tenant = self.tenant(snapshot)?;
        let take = |gate: &Gate, now| gate.take_call(lasts, now);
        if take(&tenant.gate, Instant::now()).is_err() {
            // In a box, as calls mostly find credits.
            Box::pin(self.wait(&tenant, take, lasts)).await?;
        }
        Ok(CallSlot(tenant.gate.clone()))
    }

    /// Admits a new session.
    ///
    /// # Errors
    /// As [`Tenants::admit_call`].
    pub async fn admit_session(&self, snapshot: &Snapshot) -> Result<SessionSlot, Error> {
        let tenant = self.tenant(snapshot)?;
        let take = |gate: &Gate, _| if gate.sessions.take() { Ok(()) } else { Err(vec![Limit::Sessions]) };
        Box::pin(self.wait(&tenant, take, Duration::ZERO)).await?;
        Ok(SessionSlot(Some(tenant.gate.clone())))
    }

    /// Admits the connection of a Runtime.
    ///
    /// # Errors
    /// As [`Tenants::admit_call`].
    pub async fn admit_runtime(&self, snapshot: &Snapshot) -> Result<RuntimeSlot, Error> {
        let tenant = self.tenant(snapshot)?;
        let take = |gate: &Gate, _| if gate.runtimes.take() { Ok(()) } else { Err(vec![Limit::Runtimes]) };
        Box::pin(self.wait(&tenant, take, Duration::ZERO)).await?;
        Ok(RuntimeSlot(tenant.gate.clone()))
    }

    /// Applies the snapshot's quotas now, instead of with the next admission.
    pub fn refresh(&self, snapshot: &Snapshot) {
        self.known(snapshot.id()).learn(newest(snapshot));
    }

    /// Returns the tenant's limits, with quotas at least as new as the snapshot's.
    fn tenant(&self, snapshot: &Snapshot) -> Result<Arc<Tenant>, Error> {
        if let Some(refusal) = snapshot.refuses_calls() {
            return Err(refusal);
        }
        let tenant = self.known(snapshot.id());
        tenant.learn(newest(snapshot));
        Ok(tenant)
    }

    pub(crate) fn known(&self, id: TenantId) -> Arc<Tenant> {
        if let Some(tenant) = self.0.tenants.get(&id) {
            return tenant.clone();
        }
        let entry = self.0.tenants.entry(id);
        let new = || {
            self.0.wiring.metrics.tenants.inc();
            Arc::new(Tenant::new(id, Instant::now()))
        };
        entry.or_insert_with(new).clone()
    }

    /// Waits until `take` finds what it needs, or the tenant's home says that there is no more.
    async fn wait(
        &self,
        tenant: &Tenant,
        take: impl Fn(&Gate, Instant) -> Result<(), Vec<Limit>>,
        lasts: Duration,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let mut waiting: Option<Waiting<'_>> = None;
        let refused = loop {
            let heard = tenant.heard.notified();
            tokio::pin!(heard);
            // Before the look, so that what is answered meanwhile is not missed.
            heard.as_mut().enable();
            let now = Instant::now();
            let Err(missing) = take(&tenant.gate, now) else {
                if waiting.is_some() {
                    self.waited("granted", began);
                }
                return Ok(());
            };
            if waiting.as_ref().is_none_or(|waiting| waiting.limits != missing) {
                let holder = tenant.holder();
                let recent = |limit: &Limit| Some((*limit, holder.recent_refusal(*limit, now)?));
                if let Some(refused) = missing.iter().find_map(recent) {
                    break refused;
                }
                drop(holder);
                // The old place ends first: nobody waits twice.
                drop(waiting.take());
                waiting = Some(Waiting::new(tenant, missing, lasts));
            }
            let place = waiting.as_ref().expect("was put there");
            let refusal = {
                let holder = tenant.holder();
                place.limits.iter().find_map(|limit| Some((*limit, holder.refusal(*limit, place.since)?)))
            };
            if let Some(refused) = refusal {
                break refused;
            }
            if now >= began + PATIENCE {
                break (place.limits[0], Refused::Unknown);
            }
            let report = tenant.holder().ask(&tenant.gate, now);
            if let Some(report) = report {
                self.report(tenant, report);
            }
            // A message that was lost is sent again.
            timeout_at((now + RESEND).min(began + PATIENCE), heard).await.ok();
        };
        self.refuse(refused, began)
    }

    fn refuse(&self, (limit, refused): (Limit, Refused), began: Instant) -> Result<(), Error> {
        let what = limit.what();
        match refused {
            Refused::Unknown => {
                self.waited("unknown", began);
                let why =
                    "the node that hands the tenant's credits out, or one that holds some, does not answer";
                Err(Error::LimitUnknown { what, why, retry_after: UNKNOWN_RETRY })
            }
            Refused::AtLimit { quota, retry_after } => {
                self.waited("at_limit", began);
                self.0.wiring.metrics.refused.with_label_values(&[limit.name()]).inc();
                Err(match limit {
                    Limit::Starts => Error::RateLimited { limit: quota, retry_after },
                    Limit::Calls => Error::QuotaExceeded { what, limit: quota, retry_after: CALL_RETRY },
                    Limit::Sessions | Limit::Runtimes => {
                        Error::QuotaExceeded { what, limit: quota, retry_after: LONG_RETRY }
                    }
                })
            }
        }
    }

    fn waited(&self, outcome: &str, began: Instant) {
        let metrics = &self.0.wiring.metrics;
        metrics.waits.with_label_values(&[outcome]).inc();
        metrics.wait_seconds.observe(began.elapsed().as_secs_f64());
    }
}

fn newest(snapshot: &Snapshot) -> Newest {
    Newest { revision: snapshot.revision(), quotas: snapshot.quotas() }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("tenants", &self.0.tenants.len()).finish_non_exhaustive()
    }
}
