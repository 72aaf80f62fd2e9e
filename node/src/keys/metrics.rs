use aesp_storage::KeyHealth;
use prometheus::{Gauge, IntCounter, IntGauge, Opts, Registry};

/// What is shown of the keys of this node.
#[derive(Clone)]
pub(crate) struct Metrics {
    provider: aesp_keys::Metrics,
    up: IntGauge,
    cached: IntGauge,
    oldest: Gauge,
    rotating: IntGauge,
    resealed: IntCounter,
    rewrapped: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGauge::with_opts(Opts::new(name, help));
        let counter = |name: &str, help: &str| IntCounter::with_opts(Opts::new(name, help));
        let metrics = Self {
            provider: aesp_keys::Metrics::register(registry)?,
            up: gauge("aesp_keys_provider_up", "Whether the key provider gave its last answer.")?,
            cached: gauge("aesp_keys_cached_tenants", "Tenants whose keys are in memory.")?,
            oldest: Gauge::with_opts(Opts::new(
                "aesp_keys_cache_oldest_seconds",
                "The age of the oldest keys in memory; at the configured life they are dropped.",
            ))?,
            rotating: gauge(
                "aesp_keys_rotating_tenants",
                "Tenants of this node whose old rows are being sealed under a new data key.",
            )?,
            resealed: counter(
                "aesp_keys_resealed_rows_total",
                "Rows that this node sealed under a new data key.",
            )?,
            rewrapped: counter(
                "aesp_keys_rewrapped_tenants_total",
                "Tenants whose keys this node wrapped under a new master key.",
            )?,
        };
        for one in [&metrics.up, &metrics.cached, &metrics.rotating] {
            registry.register(Box::new(one.clone()))?;
        }
        for one in [&metrics.resealed, &metrics.rewrapped] {
            registry.register(Box::new(one.clone()))?;
        }
        registry.register(Box::new(metrics.oldest.clone()))?;
        Ok(metrics)
    }

    /// Returns the counters of the provider itself.
    pub(crate) fn provider(&self) -> aesp_keys::Metrics {
        self.provider.clone()
    }

    pub(super) fn show(&self, health: &KeyHealth) {
        self.up.set(health.trouble.is_none().into());
        self.cached.set(i64::try_from(health.cached).unwrap_or(i64::MAX));
        self.oldest.set(health.oldest.as_secs_f64());
    }

    pub(super) fn rotating(&self, tenants: usize) {
        self.rotating.set(i64::try_from(tenants).unwrap_or(i64::MAX));
    }

    pub(super) fn resealed(&self, rows: u64) {
        self.resealed.inc_by(rows);
    }

    pub(super) fn rewrapped(&self, tenants: u64) {
        self.rewrapped.inc_by(tenants);
    }
}
