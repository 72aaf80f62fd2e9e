use std::{collections::BTreeSet, sync::Arc, time::Duration};

use aesp_audit::{Event, Recorder};
use aesp_cluster::{Fence, Ownership};
use aesp_proto::{
    Clock, Entropy, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::Store;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Archive, Due, Error, Limits, Metrics, Progress,
    destroy::{destroy_due, due},
    sweep::{asked, sweep},
};

/// How often it is looked whether logs are to be gone through.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is looked whether the time of something is over.
const DUE: Duration = Duration::from_secs(600);
/// How long one tenant's old events may be moved before others get their turn.
const ARCHIVING: Duration = Duration::from_secs(60);
/// Tenants that one transaction finds.
const TENANTS: usize = 256;
/// The pause after a step is as long as the step, and no shorter than that: what runs comes first.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// What the event of a destroyed partition is called.
const ACTION: &str = "audit.key_destroyed";

/// What the duty works with.
pub struct Wiring {
    /// The store.
    pub store: Store,
    /// Which tenants' home the node is.
    pub ownership: Ownership,
    /// Where it is put on record.
    pub recorder: Recorder,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// For the ids of events.
    pub entropy: Entropy,
    /// Where it counts.
    pub metrics: Metrics,
    /// What the platform wants.
    pub limits: Limits,
    /// Where old events are moved to, if they are.
    pub archive: Option<Archive>,
}

/// Destroys what is due at the tenants whose home the node is, and goes through their logs afterwards. Cheap to clone.
#[derive(Clone)]
pub struct Duty {
    work: Arc<Wiring>,
    wake: Arc<Notify>,
}

impl Duty {
    /// Makes the duty; [`start`](Self::start) begins it.
    #[must_use]
    pub fn new(wiring: Wiring) -> Self {
        Self { work: Arc::new(wiring), wake: Arc::default() }
    }

    /// Returns what the platform wants.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.work.limits
    }

    /// Returns where it counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.work.metrics
    }

    /// Returns where old events are moved to.
    ///
    /// # Errors
    /// [`Error::NoArchive`] if they are not.
    pub fn archive(&self) -> Result<&Archive, Error> {
        self.work.archive.as_ref().ok_or(Error::NoArchive)
    }

    /// Has it look now, at everything.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Begins, until `closing`.
    pub fn start(&self, closing: CancellationToken) {
        let (work, wake) = (Arc::clone(&self.work), Arc::clone(&self.wake));
        tokio::spawn(closing.clone().run_until_cancelled_owned(async move {
            let mut looked: Option<Instant> = None;
            loop {
                if looked.is_none_or(|at| at.elapsed() >= DUE) {
                    looked = Some(Instant::now());
                    if let Err(error) = work.destroy_all().await {
                        work.metrics.failures.inc();
                        warn!(%error, "the tenants whose events may be due were not found; tried again later");
                    }
                }
                if let Err(error) = work.sweep_all().await {
                    work.metrics.failures.inc();
                    warn!(%error, "erased events were not looked for; tried again later");
                }
                // Looks also when nobody wakes it: another node has erased something, or its home has moved here.
                if timeout(LOOK, wake.notified()).await.is_ok() {
                    looked = None;
                }
            }
        }));
    }
}

impl Wiring {
    /// Destroys what is due at every tenant whose home this is.
    async fn destroy_all(&self) -> Result<(), Error> {
        let (mut last, mut held) = (None, 0);
        loop {
            let found = self.store.run(move |tx| Box::pin(tx.tenants_with_rows(last, TENANTS))).await?;
            for tenant in &found {
                let Ok(fence) = self.ownership.fence(tenant.as_bytes()) else { continue };
                if let Err(error) = self.archive(*tenant, fence).await
                    && !error.is_fenced()
                {
                    self.metrics.failures.inc();
                    warn!(%tenant, %error, "a tenant's old events were not moved to the archive; tried again later");
                }
                match self.destroy(*tenant, fence).await {
                    Ok(holds) => held += holds,
                    Err(error) if error.is_fenced() || is_gone(&error) => {}
                    Err(error) => {
                        self.metrics.failures.inc();
                        warn!(%tenant, %error, "a tenant's keys that are due were not destroyed; tried again later");
                    }
                }
            }
            last = found.last().copied();
            if found.len() < TENANTS {
                self.metrics.held.set(i64::try_from(held).unwrap_or(i64::MAX));
                return Ok(());
            }
        }
    }

    /// Moves what is old of one tenant.
    async fn archive(&self, tenant: TenantId, fence: Fence) -> Result<(), Error> {
        let Some(archive) = &self.archive else { return Ok(()) };
        let (store, clock) = (&self.store, &*self.clock);
        let moved = archive.run(store, tenant, clock, Some(fence), &self.metrics, ARCHIVING).await?;
        if moved.events > 0 {
            info!(%tenant, bundles = moved.bundles, events = moved.events, "old events were moved to the archive");
        }
        Ok(())
    }

    /// Destroys what is due at one tenant; returns how many holds are in the way.
    async fn destroy(&self, tenant: TenantId, fence: Fence) -> Result<usize, Error> {
        loop {
            let (limits, now) = (self.limits, self.clock.now());
            // Looked at first: mostly nothing is due, and then nothing is written.
            let looked =
                self.store.run(move |tx| Box::pin(async move { due(tx, tenant, &limits, now).await }));
            let (waits, held) = looked.await?;
            if waits.is_empty() {
                return Ok(held.len());
            }
            let entropy = self.entropy.clone();
            let destroyed = self.recorder.record_for(tenant, move |tx| {
                let entropy = entropy.clone();
                Box::pin(async move {
                    fence.check(tx).await?;
                    let destroyed = destroy_due(tx, tenant, &limits, now).await?;
                    let events = destroyed.iter().map(|one| event(&entropy, tenant, one)).collect();
                    Ok::<_, Error>((destroyed.len(), events))
                })
            });
            let destroyed = destroyed.await?;
            self.metrics.destroyed.with_label_values(&["partition"]).inc_by(destroyed as u64);
            info!(%tenant, keys = destroyed, "audit keys whose time was over were destroyed");
            if destroyed == 0 {
                return Ok(held.len());
            }
        }
    }

    /// Goes through the logs that are asked for, a step each in turn.
    async fn sweep_all(&self) -> Result<(), Error> {
        let mut failed = BTreeSet::new();
        loop {
            let asked = self.store.run(|tx| Box::pin(asked(tx))).await?;
            let own = asked.into_iter().filter(|tenant| !failed.contains(tenant)).filter_map(|tenant| {
                self.ownership.fence(tenant.as_bytes()).ok().map(|fence| (tenant, fence))
            });
            let own: Vec<(TenantId, Fence)> = own.collect();
            self.metrics.waiting.set(i64::try_from(own.len()).unwrap_or(i64::MAX));
            if own.is_empty() {
                return Ok(());
            }
            for (tenant, fence) in own {
                let began = Instant::now();
                let now = self.clock.now();
                let step = self.store.run(move |tx| {
                    Box::pin(async move {
                        fence.check(tx).await?;
                        sweep(tx, tenant, now).await
                    })
                });
                match step.await {
                    Ok(Progress::More(found)) => self.metrics.swept.inc_by(found),
                    Ok(Progress::Done) => info!(%tenant, "a log was gone through for erased events"),
                    Err(error) if error.is_fenced() => {}
                    // One tenant's trouble is not the others'.
                    Err(error) => {
                        self.metrics.failures.inc();
                        warn!(%tenant, %error, "erased events of a tenant were not looked for; tried again later");
                        failed.insert(tenant);
                    }
                }
                sleep(began.elapsed().max(SHORTEST_PAUSE)).await;
            }
        }
    }
}

fn event(entropy: &Entropy, tenant: TenantId, due: &Due) -> Event {
    let mut event = Event::new(entropy, tenant, EventType::SystemEvent, ACTION, Outcome::Success);
    let period = due.partition.period;
    event.details.resource = "audit keys".into();
    event.details.reason = due.rule.clone();
    event.details.fields = vec![
        ("class".into(), period.class.to_string()),
        ("from_ms".into(), period.start().0.to_string()),
        ("to_ms".into(), period.end().0.to_string()),
    ];
    event
}

/// Tells whether the tenant is gone with all its keys.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Store(aesp_storage::Error::KeyDestroyed { .. }))
}

impl std::fmt::Debug for Duty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Duty")
    }
}
