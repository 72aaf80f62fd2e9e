use std::{sync::Arc, time::Duration};

use aesp_audit::Recorder;
use aesp_cluster::{Fence, Ownership};
use aesp_follow::{Advance, Follower};
use aesp_keys::Secrets;
use aesp_proto::{Clock, Entropy, TenantId};
use aesp_storage::Store;
use async_trait::async_trait;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error, Metrics, Options,
    config::Receiver,
    courier::Courier,
    home::Homes,
    transport::{self, Means, Transport},
    trim,
};

/// What alerts need from their neighbours.
pub struct Wiring {
    /// The store of the logs, rules and alerts.
    pub store: Store,
    /// Where what becomes of alerts is recorded.
    pub recorder: Recorder,
    /// Whose home this node is.
    pub ownership: Ownership,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// For ids and jitter.
    pub entropy: Entropy,
    /// Where receivers' secrets lie.
    pub secrets: Secrets,
    /// What they count.
    pub metrics: Metrics,
    /// This node's name, which receivers are told.
    pub name: String,
    /// Bounds.
    pub options: Options,
    /// Ends them.
    pub closing: CancellationToken,
}

/// The alerts of the tenants whose home this node is, and what people do with alerts of any tenant. Cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) homes: Arc<Homes>,
    pub(crate) receivers: Vec<(Receiver, Arc<dyn Transport>)>,
}

/// The pause after something has crashed.
const RESTART: Duration = Duration::from_secs(1);
/// How often metrics are told.
const SHOW: Duration = Duration::from_secs(1);
/// How often it is looked for what is too old to be kept.
const TRIM: Duration = Duration::from_secs(600);

impl Alerts {
    /// Makes the receivers of the configuration and begins; logs are looked through as a [`Follower`].
    ///
    /// # Errors
    /// [`Error::Setup`] if a file that a receiver's configuration names can't be used.
    pub fn start(config: &Config, wiring: Wiring) -> Result<Self, Error> {
        let means = Means {
            secrets: wiring.secrets,
            clock: Arc::clone(&wiring.clock),
            entropy: wiring.entropy.clone(),
            node: wiring.name,
        };
        let mut receivers = Vec::new();
        for receiver in &config.receivers {
            receivers.push((receiver.clone(), transport::open(receiver, &means)?));
        }
        let homes = Arc::new(Homes::new(
            wiring.store,
            wiring.recorder,
            wiring.ownership,
            wiring.clock,
            wiring.entropy,
            wiring.metrics,
            Arc::new(config.book()),
            wiring.options,
        ));
        for (receiver, transport) in &receivers {
            let courier = Arc::new(Courier {
                homes: Arc::clone(&homes),
                receiver: receiver.clone(),
                transport: Arc::clone(transport),
            });
            spawn(wiring.closing.clone(), format!("alert receiver {}", receiver.name), move || {
                let courier = Arc::clone(&courier);
                async move { courier.run().await }
            });
        }
        let ticking = Arc::clone(&homes);
        spawn(wiring.closing, "alerts' times".to_owned(), move || {
            let homes = Arc::clone(&ticking);
            async move { tick(&homes).await }
        });
        Ok(Self { inner: Arc::new(Inner { homes, receivers }) })
    }
}

/// Runs a duty, and again after a crash, until it is told to end.
fn spawn<F>(closing: CancellationToken, name: String, begin: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            let mut duty = tokio::spawn(begin());
            tokio::select! {
                () = closing.cancelled() => {
                    duty.abort();
                    return;
                }
                ended = &mut duty => {
                    let error = ended.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
                    tracing::error!(duty = name, error, "a duty of alerts has crashed; it begins anew");
                }
            }
            sleep(RESTART).await;
        }
    });
}

/// Looks after what time alone changes.
async fn tick(homes: &Arc<Homes>) {
    let mut ticks = interval(homes.options.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut shown, mut trimmed) = (Instant::now(), Instant::now());
    loop {
        ticks.tick().await;
        let now = homes.clock.now();
        for tenant in homes.due_looks(now) {
            let Ok(fence) = homes.ownership.fence(tenant.as_bytes()) else {
                homes.drop_slot(tenant);
                continue;
            };
            if let Err(error) = homes.step(tenant, fence).await {
                tracing::warn!(%tenant, %error, "a tenant's alerts were not looked at in time; tried again later");
            }
        }
        if shown.elapsed() >= SHOW {
            shown = Instant::now();
            homes.drop_foreign();
            homes.show(now);
        }
        if trimmed.elapsed() >= TRIM {
            trimmed = Instant::now();
            trim::trim_all(homes, now).await;
        }
    }
}

#[async_trait]
impl Follower for Alerts {
    fn name(&self) -> &'static str {
        "alerts"
    }

    async fn advance(&self, tenant: TenantId, fence: Fence) -> Result<Advance, aesp_follow::Error> {
        self.inner.homes.step(tenant, fence).await
    }
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alerts")
    }
}
