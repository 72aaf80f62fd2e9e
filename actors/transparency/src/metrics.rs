use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};

/// What the sealer counts. No label names a tenant.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) leaves: IntCounter,
    pub(crate) checkpoints: IntCounter,
    pub(crate) seconds: Histogram,
    pub(crate) damaged: IntCounter,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = HistogramOpts::new("aesp_log_seal_seconds", "Time of one step of the sealer.")
            .buckets(prometheus::exponential_buckets(0.001, 2.0, 13)?);
        let counter = |name: &str, help: &str| IntCounter::new(name, help);
        let metrics = Self {
            leaves: counter("aesp_log_sealed_events_total", "Events that this node sealed into trees.")?,
            checkpoints: counter("aesp_log_checkpoints_total", "Checkpoints that this node signed.")?,
            seconds: Histogram::with_opts(seconds)?,
            damaged: counter(
                "aesp_log_damaged_total",
                "Steps that found a stored log other than it was signed, and signed nothing.",
            )?,
        };
        registry.register(Box::new(metrics.leaves.clone()))?;
        registry.register(Box::new(metrics.checkpoints.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.damaged.clone()))?;
        Ok(metrics)
    }
}
