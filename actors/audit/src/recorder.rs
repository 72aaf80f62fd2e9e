use std::{sync::Arc, time::Duration};

use aesp_proto::{Clock, Entropy, TenantId};
use aesp_storage::{Store, Transaction};
use futures::future::BoxFuture;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    Error, Event, Metrics, PublicKey, Receipt, Refused,
    flush::Flusher,
    key::NodeKey,
    queue::{Limits, Queue},
    queues::Queues,
    refused::Refusals,
    unit::{Change, Events, Unit},
    writer::Writer,
};

/// Bounds of the writers. The default is right but for tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many writers there are, each with its share of the tenants.
    pub writers: usize,
    /// Units that may wait for one writer, over all its tenants.
    pub queue_units: usize,
    /// Units of one tenant that may wait.
    pub tenant_units: usize,
    /// Units in a commit.
    pub batch_units: usize,
    /// Bytes that a commit writes, after which no further unit is taken into it.
    pub batch_bytes: usize,
    /// How long a commit may take before all its units fail.
    pub commit_timeout: Duration,
    /// Sorts of refusals before authentication that are told apart.
    pub refusal_sorts: usize,
    /// How often they are written.
    pub flush_every: Duration,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            writers: 8,
            queue_units: 32_768,
            tenant_units: 16_384,
            batch_units: 1_024,
            batch_bytes: 800_000,
            commit_timeout: Duration::from_secs(5),
            refusal_sorts: 4_096,
            flush_every: Duration::from_secs(1),
            metrics: Metrics::default(),
        }
    }
}

/// Writes the audit log. Cheap to clone; the writers end when the last one is gone, or by [`Duty::stop`].
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    queues: Arc<Queues>,
    refusals: Arc<Refusals>,
    public_key: PublicKey,
    metrics: Metrics,
    committed: watch::Sender<()>,
}

/// The running writers.
#[derive(Debug)]
pub struct Duty {
    writers: Vec<JoinHandle<()>>,
    flusher: JoinHandle<()>,
    closing: watch::Sender<bool>,
}

impl Recorder {
    /// Loads the audit key, or makes it in a store without one, and starts writers with chains of their own.
    ///
    /// # Errors
    /// The store's, or [`Error::Key`] if the stored key is damaged.
    pub async fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Entropy,
        options: Options,
    ) -> Result<(Self, Duty), Error> {
        let key = Arc::new(NodeKey::load_or_create(&store).await?);
        // It changes only while no node has the store.
        let log_epoch = store.run(|tx| Box::pin(async move { tx.log_epoch().await })).await?;
        let public_key = key.public();
        let limits = Limits { total: options.queue_units, per_tenant: options.tenant_units };
        let queues = Arc::new(Queues::new(options.writers, limits));
        let refusals = Arc::new(Refusals::new(options.refusal_sorts));
        let (closing, closed) = watch::channel(false);
        let committed = watch::Sender::new(());
        let metrics = options.metrics.clone();
        let flusher = Flusher {
            queues: Arc::clone(&queues),
            refusals: Arc::clone(&refusals),
            entropy: entropy.clone(),
            every: options.flush_every,
            closed,
        };
        let write = |queue: &Arc<Queue>| {
            let (store, clock, entropy) = (store.clone(), Arc::clone(&clock), entropy.clone());
            let queues = (Arc::clone(queue), Arc::clone(&queues));
            let key = (Arc::clone(&key), log_epoch);
            let (options, committed) = (options.clone(), committed.clone());
            let writer = Writer::new(store, queues, clock, entropy, key, options, committed);
            tokio::spawn(writer.supervise())
        };
        let duty = Duty {
            writers: queues.iter().map(write).collect(),
            flusher: tokio::spawn(flusher.run()),
            closing,
        };
        Ok((Self { inner: Arc::new(Inner { queues, refusals, public_key, metrics, committed }) }, duty))
    }

    /// Runs `change` in a batch's transaction and appends its events in the same commit: both are durable when this
    /// returns. A change that fails fails alone. It may run several times, so it must be pure but for the transaction.
    /// A caller that stops waiting does not take its change back.
    ///
    /// # Errors
    /// The change's own; [`Error::Overloaded`], [`Error::Parked`] or [`Error::Stopped`] if it was not taken on;
    /// [`Error::NotCommitted`], [`Error::TimedOut`] or [`Error::Lost`] if the batch failed.
    pub async fn record<T, E, F>(&self, change: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<(T, Vec<Event>), E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.record_for(TenantId::PLATFORM, change).await
    }

    /// Does as [`Recorder::record`], and queues the change as the tenant's: when more wait than fit in a commit, tenants
    /// take turns, and one tenant can't fill the queue. Everything that a tenant's caller triggers belongs here.
    ///
    /// # Errors
    /// Those of [`Recorder::record`].
    pub async fn record_for<T, E, F>(&self, tenant: TenantId, change: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<(T, Vec<Event>), E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        Ok(self.record_with_receipt(tenant, change).await?.0)
    }

    /// Does as [`Recorder::record_for`], and returns the receipt of the change's last event as well, if it has events.
    ///
    /// # Errors
    /// Those of [`Recorder::record`].
    pub async fn record_with_receipt<T, E, F>(
        &self,
        tenant: TenantId,
        change: F,
    ) -> Result<(T, Option<Receipt>), E>
    where
        F: for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<(T, Vec<Event>), E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (change, outcome) = Change::new(change);
        self.push(tenant, Arc::new(change))?;
        outcome.await.unwrap_or_else(|_| Err(Error::Lost.into()))
    }

    /// Appends events that come with no other change; queued as those of the first event's tenant.
    ///
    /// # Errors
    /// Those of [`Recorder::record`], and [`Error::EventTooLarge`].
    pub async fn append(&self, events: Vec<Event>) -> Result<(), Error> {
        let Some(tenant) = events.first().map(|event| event.tenant) else { return Ok(()) };
        self.write(tenant, events).await?;
        Ok(())
    }

    /// Appends an event that comes with no other change, and returns its receipt.
    ///
    /// # Errors
    /// Those of [`Recorder::append`].
    pub async fn append_with_receipt(&self, event: Event) -> Result<Receipt, Error> {
        self.write(event.tenant, vec![event]).await?.ok_or(Error::Lost)
    }

    async fn write(&self, tenant: TenantId, events: Vec<Event>) -> Result<Option<Receipt>, Error> {
        let (change, outcome) = Events::new(events);
        self.push(tenant, Arc::new(change))?;
        Ok(outcome.await.unwrap_or(Err(Error::Lost))?.1)
    }

    /// Counts a failure before authentication; about each second they are written, aggregated with exact counts. Never
    /// blocks and never fails.
    pub fn observe_refused(&self, refusal: Refused) {
        self.inner.metrics.refused_strangers.inc();
        self.inner.refusals.observe(refusal);
    }

    /// Tells whether records are refused for the moment because the store did not take the last ones.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.inner.queues.iter().any(|queue| queue.is_parked())
    }

    /// Returns a receiver that hears of every commit of this process's writers.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<()> {
        self.inner.committed.subscribe()
    }

    /// Returns the key that verifies this log.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.inner.public_key
    }

    fn push(&self, tenant: TenantId, unit: Arc<dyn Unit>) -> Result<(), Error> {
        self.inner.queues.push(tenant, unit).inspect_err(|error| {
            let reason = match error {
                Error::Overloaded { .. } => "overloaded",
                Error::Parked { .. } => "parked",
                _ => "stopped",
            };
            self.inner.metrics.refused_units.with_label_values(&[reason]).inc();
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queues.close();
    }
}

impl Duty {
    /// Writes what is counted and what waits, then ends. Later records are refused with [`Error::Stopped`].
    ///
    /// # Errors
    /// [`Error::Lost`] if a writer died of a panic.
    pub async fn stop(self) -> Result<(), Error> {
        // Without a receiver the flusher has ended already.
        self.closing.send_replace(true);
        self.flusher.await.map_err(|_| Error::Lost)?;
        for writer in self.writers {
            writer.await.map_err(|_| Error::Lost)?;
        }
        Ok(())
    }

    /// Ends at once, as a crash would: what was not committed is lost. For tests.
    pub fn kill(self) {
        self.flusher.abort();
        self.writers.iter().for_each(JoinHandle::abort);
    }
}
