use std::{sync::Arc, time::Duration};

use aesp_proto::{Error, TenantId};
use aesp_storage::{DataKeyRotation, Error as StoreError, KeyVersion, MasterKeyRewrap, Scan, Transaction};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Metrics, Watch};
use crate::{
    Config,
    config::{Engine, KeysProvider},
    services::Context,
};

const PLATFORM: TenantId = TenantId::PLATFORM;
/// How often it is looked whether something is to be done.
const LOOK: Duration = Duration::from_secs(5);
/// The most tenants in one step of wrapping anew: two questions to the key provider each, within one transaction.
const TENANTS_A_STEP: usize = 10;
/// Rotations that are looked at in one round.
const ROTATIONS: usize = 1_000;
/// The pause after a step is as long as the step, and no shorter than that: what runs comes first.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// A wrapped key that nobody opens is looked for again after that.
const LOOKED_AGAIN: Duration = Duration::from_secs(3_600);

/// What follows a rotation, done by the home of whose keys they are: tenants' keys are wrapped under the new master key, rows sealed under
/// the new data key. Each step is a small transaction that notes how far it came, so that another node goes on after a crash.
#[derive(Clone)]
pub(crate) struct Duty {
    wake: Arc<Notify>,
    apart: bool,
}

impl Duty {
    pub(crate) fn new(config: &Config) -> Self {
        let file = config.keys.provider == KeysProvider::File;
        Self { wake: Arc::default(), apart: file && matches!(config.store.engine(), Some(Engine::Fdb(_))) }
    }

    /// Tells whether each node may have a master key file of its own: only the nodes of an embedded store are on one machine.
    pub(crate) fn keys_lie_apart(&self) -> bool {
        self.apart
    }

    /// Begins, until `closing`.
    pub(crate) fn start(&self, context: Context, watch: Watch, metrics: Metrics, closing: CancellationToken) {
        let wake = Arc::clone(&self.wake);
        tokio::spawn(async move {
            let work = Work { context, watch, metrics, closing: closing.clone() };
            while !closing.is_cancelled() {
                // Looks also when nobody wakes it: another node has rotated, or its home has moved here.
                let woken = timeout(LOOK, wake.notified());
                if closing.run_until_cancelled(woken).await.is_none() {
                    return;
                }
                if let Err(error) = Box::pin(work.rewrap()).await {
                    tracing::warn!(%error, "tenants' keys were not wrapped anew; tried again later");
                }
                if let Err(error) = Box::pin(work.reseal()).await {
                    tracing::warn!(%error, "rows were not sealed anew; tried again later");
                }
            }
        });
    }

    /// Has it look now.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

struct Work {
    context: Context,
    watch: Watch,
    metrics: Metrics,
    closing: CancellationToken,
}

impl Work {
    /// Wraps all tenants' keys under the version that wraps now, unless they are.
    async fn rewrap(&self) -> Result<(), Error> {
        let Some(current) = self.watch.version() else { return Ok(()) };
        loop {
            let Ok(fence) = self.context.ownership.fence(PLATFORM.as_bytes()) else { return Ok(()) };
            let began = Instant::now();
            let (version, now) = (current.clone(), self.context.clock.now());
            let step = self.context.store.run(move |tx| {
                let version = version.clone();
                Box::pin(async move {
                    fence.check(tx).await?;
                    rewrap(tx, &version, now).await
                })
            });
            let (more, rewrapped) = step.await?;
            self.metrics.rewrapped(rewrapped);
            if rewrapped > 0 {
                tracing::info!(tenants = rewrapped, version = %current, "tenants' keys were wrapped anew");
            }
            if !more || !self.pause(began).await {
                return Ok(());
            }
        }
    }

    /// Goes on with the rotations of the tenants whose home this node is, a step each in turn.
    async fn reseal(&self) -> Result<(), Error> {
        loop {
            let rotations = self.context.store.run(|tx| {
                Box::pin(async move {
                    tx.scan::<DataKeyRotation>(PLATFORM, Scan { limit: ROTATIONS, ..Scan::default() }).await
                })
            });
            let rotations: Vec<_> = rotations
                .await?
                .into_iter()
                .filter_map(|(tenant, row)| {
                    Some((tenant, row, self.context.ownership.fence(tenant.as_bytes()).ok()?))
                })
                .collect();
            self.metrics.rotating(rotations.len());
            if rotations.is_empty() {
                return Ok(());
            }
            for (tenant, before, fence) in rotations {
                let began = Instant::now();
                let step = self.context.store.run(move |tx| {
                    Box::pin(async move {
                        fence.check(tx).await?;
                        tx.step_data_key_rotation(tenant).await
                    })
                });
                match step.await? {
                    Some(now) => self.metrics.resealed(now.resealed.saturating_sub(before.resealed)),
                    None => {
                        tracing::info!(%tenant, version = before.to, "the old data key of a tenant is dropped")
                    }
                }
                if !self.pause(began).await {
                    return Ok(());
                }
            }
        }
    }

    /// Leaves as much time to others as a step took; tells whether to go on.
    async fn pause(&self, began: Instant) -> bool {
        let pause = began.elapsed().max(SHORTEST_PAUSE);
        self.closing.run_until_cancelled(sleep(pause)).await.is_some()
    }
}

/// Wraps the keys of the next tenants anew; tells whether there are more, and how many were.
async fn rewrap(
    tx: &Transaction,
    current: &KeyVersion,
    now: aesp_proto::Timestamp,
) -> Result<(bool, u64), Error> {
    let row = tx.get::<MasterKeyRewrap>(PLATFORM, &()).await?;
    let same = row.filter(|row| row.version == current.to_string());
    let mut row = match same {
        Some(row) if row.done && (row.lost == 0 || now < row.at.plus(LOOKED_AGAIN)) => return Ok((false, 0)),
        Some(row) if !row.done => row,
        _ => MasterKeyRewrap::begin(current, now),
    };
    let mut rewrapped = 0;
    if row.next.is_none() && tx.rewrap_canary(current).await? {
        tracing::info!(version = %current, "the store is under a new version of the master key");
    }
    let tenants = aesp_tenant::list(tx, row.next, TENANTS_A_STEP).await?;
    for tenant in &tenants {
        match tx.rewrap(tenant.id, current).await {
            Ok(true) => rewrapped += 1,
            Ok(false) => {}
            // One tenant's loss is not the others'.
            Err(error @ (StoreError::MasterKeyGone(_) | StoreError::WrongMasterKey)) => {
                tracing::error!(tenant = %tenant.id, %error, "a tenant's keys can't be opened any more");
                row.lost += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    row.next = tenants.last().map(|tenant| tenant.id).or(row.next);
    row.rewrapped += rewrapped;
    row.done = tenants.len() < TENANTS_A_STEP;
    row.at = now;
    let done = row.done;
    tx.put(PLATFORM, &(), &row).await?;
    Ok((!done, rewrapped))
}
