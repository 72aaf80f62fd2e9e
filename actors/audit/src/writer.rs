use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use aesp_proto::{Clock, Entropy, Timestamp, WriterId};
use aesp_storage::{Error as StoreError, Store};
use futures::FutureExt;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::{error, info, warn};

use crate::{
    Error, Metrics, Options,
    append::{Appended, Batch, Chains, Stop},
    key::NodeKey,
    queue::Queue,
    queues::Queues,
    unit::{Unit, panic_text},
};

/// How long new units are refused after a failed commit: doubles up to the last.
const PARK_FIRST: Duration = Duration::from_millis(50);
const PARK_LAST: Duration = Duration::from_secs(1);

/// Commits batch after batch; while one commits, the next gathers in the queue.
pub(crate) struct Writer {
    pub(crate) store: Store,
    pub(crate) queue: Arc<Queue>,
    /// This writer's and the others', to tell how much waits.
    pub(crate) queues: Arc<Queues>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) key: Arc<NodeKey>,
    pub(crate) log_epoch: u32,
    pub(crate) options: Options,
    /// Told of each commit.
    committed: watch::Sender<()>,
    chains: Arc<Chains>,
    park: Duration,
    /// Whether the last commit did not fit into the store.
    full: bool,
}

/// Units that may be taken out before the batch is halved at each further one, so that many bad units don't make all
/// the good ones run again and again.
const RERUNS: usize = 8;

type Units = Vec<Arc<dyn Unit>>;

impl Writer {
    pub(crate) fn new(
        store: Store,
        (queue, queues): (Arc<Queue>, Arc<Queues>),
        clock: Arc<dyn Clock>,
        entropy: Entropy,
        (key, log_epoch): (Arc<NodeKey>, u32),
        options: Options,
        committed: watch::Sender<()>,
    ) -> Self {
        let chains = Arc::new(new_chains(&entropy, Timestamp::default()));
        let park = PARK_FIRST;
        Self {
            store,
            queue,
            queues,
            clock,
            entropy,
            key,
            log_epoch,
            options,
            committed,
            chains,
            park,
            full: false,
        }
    }

    /// Runs until the queue is closed and empty. A panic costs the batch in hand, whose callers hear that it is lost.
    pub(crate) async fn supervise(mut self) {
        while let Err(panic) = AssertUnwindSafe(self.run()).catch_unwind().await {
            error!(panic = panic_text(panic.as_ref()), "audit writer panicked; its chains begin anew");
            self.retire();
        }
        info!("audit writer stopped");
    }

    async fn run(&mut self) {
        while let Some(units) = self.queue.take(self.options.batch_units).await {
            self.metrics().queue_depth.set(i64::try_from(self.queues.waiting()).unwrap_or(i64::MAX));
            self.commit(units).await;
        }
    }

    /// Commits the units, less those that fail by themselves; what does not fit goes back to the front of the queue.
    async fn commit(&mut self, mut units: Units) {
        let mut taken_out = Units::new();
        while !units.is_empty() {
            match self.attempt(&units).await {
                Ok(appended) => {
                    self.queue.put_back(units.drain(appended.ran..));
                    self.apply(&appended, units.len(), taken_out.len());
                    units.iter().zip(appended.receipts).for_each(|(unit, receipt)| unit.settle(receipt));
                    taken_out.iter().for_each(|unit| unit.settle(None));
                    return;
                }
                Err(Failure::Unit(index)) => {
                    taken_out.push(units.remove(index));
                    if taken_out.len() > RERUNS {
                        self.queue.put_back(units.drain(units.len() / 2..));
                    }
                }
                Err(Failure::TooLarge) if units.len() == 1 => {
                    units[0].refuse(Error::TooLarge);
                    taken_out.append(&mut units);
                }
                // Nothing was written. What may use the reserve of a full store must not wait, nor fail, with what may not.
                Err(Failure::Full) if units.len() == 1 => {
                    units[0].refuse(Error::NotCommitted { cause: StoreError::Full });
                    taken_out.append(&mut units);
                    self.noted_full();
                }
                // One of them may be too large for any commit, or for what is left: halving leads to it.
                Err(Failure::TooLarge | Failure::Full) => {
                    self.queue.put_back(units.drain(units.len() / 2..));
                }
                Err(failure) => {
                    units.append(&mut taken_out);
                    return self.fail(units, &failure.into());
                }
            }
        }
        // Each failed with its own reason and nothing is left to commit with.
        self.metrics().failed_units.inc_by(taken_out.len() as u64);
        taken_out.iter().for_each(|unit| unit.settle(None));
    }

    async fn attempt(&self, units: &Units) -> Result<Appended, Failure> {
        let batch = Arc::new(Batch {
            units: units.clone(),
            chains: Arc::clone(&self.chains),
            key: Arc::clone(&self.key),
            log_epoch: self.log_epoch,
            clock: Arc::clone(&self.clock),
            limit_bytes: self.options.batch_bytes,
        });
        let started = Instant::now();
        let run = self.store.run(move |tx| {
            let batch = Arc::clone(&batch);
            Box::pin(async move { batch.append(tx).await })
        });
        let outcome = timeout(self.options.commit_timeout, run).await;
        self.metrics().commit_seconds.observe(started.elapsed().as_secs_f64());
        match outcome {
            Err(_) => Err(Failure::TimedOut),
            Ok(Err(Stop::Unit(index))) => Err(Failure::Unit(index)),
            Ok(Err(Stop::Store(StoreError::TooLarge { .. }))) => Err(Failure::TooLarge),
            Ok(Err(Stop::Store(StoreError::Full))) => Err(Failure::Full),
            Ok(Err(Stop::Store(cause))) => Err(Failure::Store(cause)),
            Ok(Ok(appended)) => Ok(appended),
        }
    }

    fn apply(&mut self, appended: &Appended, units: usize, taken_out: usize) {
        let chains = Arc::make_mut(&mut self.chains);
        chains.links.extend(appended.links.iter().copied());
        chains.last_timestamp = appended.timestamp;
        chains.begun |= appended.events > 0;
        self.park = PARK_FIRST;
        self.full = false;
        let metrics = self.metrics();
        metrics.commits.inc();
        self.committed.send_replace(());
        metrics.events.inc_by(appended.events);
        metrics.commit_units.observe(units as f64);
        metrics.failed_units.inc_by(taken_out as u64);
    }

    /// Fails the units and all that wait, and refuses more for a while. Whether the commit landed may not be known, so
    /// the chains end here and new ones begin: a second batch after the same head would look like a fork.
    fn fail(&mut self, mut units: Units, error: &Error) {
        self.retire();
        units.append(&mut self.queue.park(Instant::now() + self.park));
        warn!(units = units.len(), park_ms = self.park.as_millis(), %error, "audit batch failed");
        self.park = (self.park * 2).min(PARK_LAST);
        self.metrics().commit_failures.inc();
        units.iter().for_each(|unit| unit.fail(error.clone()));
    }

    fn noted_full(&mut self) {
        if !std::mem::replace(&mut self.full, true) {
            warn!("the store is full: only removals and revocations are taken until there is room");
        }
        self.metrics().commit_failures.inc();
    }

    fn retire(&mut self) {
        self.chains = Arc::new(new_chains(&self.entropy, self.chains.last_timestamp));
        self.metrics().writers.inc();
    }

    fn metrics(&self) -> &Metrics {
        &self.options.metrics
    }
}

/// Why an attempt was not committed.
enum Failure {
    Unit(usize),
    TooLarge,
    Full,
    TimedOut,
    Store(StoreError),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unit(_) => Self::Lost,
            Failure::TimedOut => Self::TimedOut,
            Failure::TooLarge => Self::TooLarge,
            Failure::Full => Self::NotCommitted { cause: StoreError::Full },
            Failure::Store(cause) => Self::NotCommitted { cause },
        }
    }
}

fn new_chains(entropy: &Entropy, last_timestamp: Timestamp) -> Chains {
    Chains { writer: WriterId::random(entropy), begun: false, links: HashMap::new(), last_timestamp }
}
