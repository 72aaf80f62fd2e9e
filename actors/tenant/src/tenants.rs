use std::{fmt, sync::Arc};

use aesp_proto::{TenantId, v1};
use aesp_supervision::{Handle, Mailbox, Supervisor};
use dashmap::DashMap;
use tokio::time::Instant;
use tracing::warn;

use crate::{
    CallSlot, Error, Metrics, Quotas, RuntimeSlot, SessionSlot, Snapshot,
    actor::{Message, RESTART, TenantActor},
    gate::{Gate, Lease},
};

/// Admits calls, sessions and Runtimes within their tenant's quotas. Cheap to clone.
#[derive(Clone)]
pub struct Tenants(Arc<Inner>);

struct Inner {
    gates: DashMap<TenantId, Arc<Gate>>,
    supervisor: Supervisor,
    metrics: Metrics,
}

/// What a tenant uses, over all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Sessions that have not ended.
    pub sessions: u32,
    /// Calls that run.
    pub calls_in_flight: u32,
    /// Connected Runtimes.
    pub runtimes: u32,
    /// What it may use.
    pub quotas: Quotas,
}

impl From<Usage> for v1::TenantUsage {
    fn from(usage: Usage) -> Self {
        Self {
            sessions: usage.sessions,
            calls_in_flight: usage.calls_in_flight,
            runtimes: usage.runtimes,
            quotas: Some(usage.quotas.into()),
        }
    }
}

impl Tenants {
    /// Creates the handle; homes are started below `supervisor` as tenants are first used.
    #[must_use]
    pub fn new(supervisor: Supervisor, metrics: Metrics) -> Self {
        Self(Arc::new(Inner { gates: DashMap::new(), supervisor, metrics }))
    }

    /// Admits a call by the quotas of this snapshot or of a newer one that was seen. Does not wait.
    ///
    /// # Errors
    /// [`Error::Suspended`], [`Error::Deleted`], [`Error::QuotaExceeded`] or [`Error::RateLimited`].
    pub fn admit_call(&self, snapshot: &Snapshot) -> Result<CallSlot, Error> {
        let gate = self.gate(snapshot)?;
        gate.take_call(Instant::now()).inspect_err(|_| self.refused("calls"))?;
        Ok(CallSlot(gate))
    }

    /// Admits a new session. The sessions that the store already has must have been told with [`Tenants::set_sessions`].
    ///
    /// # Errors
    /// [`Error::Suspended`], [`Error::Deleted`] or [`Error::QuotaExceeded`].
    pub fn admit_session(&self, snapshot: &Snapshot) -> Result<SessionSlot, Error> {
        let gate = self.gate(snapshot)?;
        gate.take_session().inspect_err(|_| self.refused("sessions"))?;
        Ok(SessionSlot(Some(gate)))
    }

    /// Admits the connection of a Runtime.
    ///
    /// # Errors
    /// [`Error::Suspended`], [`Error::Deleted`] or [`Error::QuotaExceeded`].
    pub fn admit_runtime(&self, snapshot: &Snapshot) -> Result<RuntimeSlot, Error> {
        let gate = self.gate(snapshot)?;
        gate.take_runtime().inspect_err(|_| self.refused("runtimes"))?;
        Ok(RuntimeSlot(gate))
    }

    /// Says how many sessions of the tenant there are in this node's shards.
    pub fn set_sessions(&self, tenant: TenantId, count: u32) {
        self.known(tenant).set_sessions(count);
    }

    /// Frees the places of sessions that ended.
    pub fn release_sessions(&self, tenant: TenantId, count: usize) {
        let gate = self.known(tenant);
        (0..count).for_each(|_| gate.sessions.give_any());
    }

    /// Applies the snapshot's quotas now, instead of with the next admission.
    pub fn refresh(&self, snapshot: &Snapshot) {
        let lease = Lease { revision: snapshot.revision(), share: snapshot.quotas() };
        self.renew(snapshot.id(), &self.known(snapshot.id()), lease);
    }

    /// Returns what the tenant uses. Its quotas are those last seen here; the store's row is the truth.
    ///
    /// # Errors
    /// [`Error::Actor`].
    pub async fn usage(&self, tenant: TenantId) -> Result<Usage, Error> {
        let gate = self.known(tenant);
        let home = self.home(&gate).await?;
        Ok(home.ask(Message::Usage).await?)
    }

    /// Returns the tenant's gate with a lease at least as new as the snapshot.
    fn gate(&self, snapshot: &Snapshot) -> Result<Arc<Gate>, Error> {
        if let Some(refusal) = snapshot.refuses_calls() {
            return Err(refusal);
        }
        let gate = match self.0.gates.get(&snapshot.id()) {
            Some(gate) => gate.clone(),
            None => self.known(snapshot.id()),
        };
        if gate.is_older_than(snapshot.revision()) {
            let lease = Lease { revision: snapshot.revision(), share: snapshot.quotas() };
            self.renew(snapshot.id(), &gate, lease);
        }
        Ok(gate)
    }

    fn known(&self, tenant: TenantId) -> Arc<Gate> {
        let entry = self.0.gates.entry(tenant);
        let gate = entry.or_insert_with(|| {
            self.0.metrics.tenants.inc();
            // Older than any snapshot, so that the first one brings the quotas.
            let nothing = Quotas { sessions: 0, calls_in_flight: 0, calls_per_second: 0, runtimes: 0 };
            let lease = Lease { revision: aesp_proto::Revision(0), share: nothing };
            Arc::new(Gate::new(lease, Instant::now()))
        });
        gate.clone()
    }

    /// Spends by the new quotas at once and tells the home. A single node holds the whole, so it need not wait for the
    /// grant: no other node can hold a part.
    fn renew(&self, tenant: TenantId, gate: &Arc<Gate>, whole: Lease) {
        gate.install(whole);
        let (tenants, gate) = (self.clone(), gate.clone());
        tokio::spawn(async move {
            if let Err(error) = tenants.tell_home(&gate, whole).await {
                warn!(%tenant, %error, "tenant's home not told of its quotas");
            }
        });
    }

    /// Tells the home of the quotas. Its address is there before it has started, so it is asked: that waits for it.
    pub(crate) async fn tell_home(&self, gate: &Arc<Gate>, whole: Lease) -> Result<(), Error> {
        let home = self.home(gate).await?;
        Ok(home.ask(|reply| Message::Quotas(whole, reply)).await?)
    }

    async fn home(&self, gate: &Arc<Gate>) -> Result<Handle<Message>, Error> {
        let start = async || {
            let gate = gate.clone();
            let factory = move || (TenantActor, gate.clone());
            let address = self.0.supervisor.start("tenant", RESTART, factory).await?;
            Ok::<_, Error>(Handle::new(address, Mailbox::default()))
        };
        Ok(gate.home.get_or_try_init(start).await?.clone())
    }

    fn refused(&self, limit: &str) {
        self.0.metrics.refused.with_label_values(&[limit]).inc();
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("gates", &self.0.gates.len()).finish_non_exhaustive()
    }
}
