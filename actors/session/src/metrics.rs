use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What sessions count. No label names a tenant or session.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) live: IntGauge,
    pub(crate) created: IntCounter,
    /// By `reason`: `destroyed`, `expired`, `revoked`.
    pub(crate) ended: IntCounterVec,
    pub(crate) activations: IntCounter,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            live: IntGauge::new("aesp_session_actors", "Sessions in memory.")?,
            created: IntCounter::new("aesp_session_created_total", "Sessions created.")?,
            ended: IntCounterVec::new(Opts::new("aesp_session_ended_total", "Sessions ended."), &["reason"])?,
            activations: IntCounter::new(
                "aesp_session_activations_total",
                "Sessions read back into memory.",
            )?,
        };
        registry.register(Box::new(metrics.live.clone()))?;
        registry.register(Box::new(metrics.created.clone()))?;
        registry.register(Box::new(metrics.ended.clone()))?;
        registry.register(Box::new(metrics.activations.clone()))?;
        Ok(metrics)
    }
}
