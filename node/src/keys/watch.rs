use std::{sync::Arc, time::Duration};

use aesp_storage::{Error, KeyHealth, KeyVersion, Store};
use arc_swap::ArcSwapOption;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::Component;

/// How often the key provider is asked whether it answers, which also keeps its login alive.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks after the key provider: whether it answers, and which version of the master key wraps.
#[derive(Clone)]
pub(crate) struct Watch {
    store: Store,
    metrics: Metrics,
    version: Arc<ArcSwapOption<KeyVersion>>,
}

impl Watch {
    /// Begins to look, until `closing`.
    pub(crate) fn start(store: Store, metrics: Metrics, closing: CancellationToken) -> Self {
        let watch = Self { store, metrics, version: Arc::default() };
        let looking = watch.clone();
        tokio::spawn(async move {
            let mut ticks = interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while closing.run_until_cancelled(ticks.tick()).await.is_some() {
                let seen = looking.store.master_key_version().await;
                looking.version.store(seen.ok().map(Arc::new));
                looking.metrics.show(&looking.store.key_health());
            }
        });
        watch
    }

    /// Returns the version that wraps, as it was last seen; nothing while the provider does not answer.
    pub(super) fn version(&self) -> Option<KeyVersion> {
        self.version.load().as_deref().cloned()
    }

    /// Tells how the keys are, for health checks: the node is ready as long as the keys in memory hold.
    pub(crate) fn component(&self) -> Component {
        let health = self.store.key_health();
        Component {
            name: "keys",
            state: state(&health),
            needed: !health.platform && health.trouble.is_some(),
        }
    }
}

fn state(health: &KeyHealth) -> Result<(), String> {
    let Some((error, since)) = &health.trouble else { return Ok(()) };
    let left = health.life.saturating_sub(health.oldest).as_secs();
    let cached =
        if health.platform { format!("; keys in memory hold for {left} s or more") } else { String::new() };
    let what = match error {
        Error::KeyProviderAway(_) => "the key provider is away",
        Error::KeyProviderDenied(_) => "the key provider refuses this node",
        _ => "the key provider can't be used",
    };
    Err(format!("{what} since {} s{cached}", since.as_secs()))
}
