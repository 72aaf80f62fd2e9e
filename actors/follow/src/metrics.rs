use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// What the followers of the audit logs count, by `follower`. No label names a tenant.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) lag_seconds: GaugeVec,
    pub(crate) waiting: IntGaugeVec,
    pub(crate) steps: IntCounterVec,
    pub(crate) failures: IntCounterVec,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = &["follower"];
        let metrics = Self {
            lag_seconds: GaugeVec::new(
                Opts::new(
                    "aesp_follow_lag_seconds",
                    "The age of the oldest event at this node's tenants that the follower has not worked off.",
                ),
                labels,
            )?,
            waiting: IntGaugeVec::new(
                Opts::new("aesp_follow_waiting_tenants", "Tenants with events that are not worked off."),
                labels,
            )?,
            steps: IntCounterVec::new(
                Opts::new("aesp_follow_steps_total", "Steps of the follower, over all tenants."),
                labels,
            )?,
            failures: IntCounterVec::new(
                Opts::new("aesp_follow_failures_total", "Steps that failed; each is tried again."),
                labels,
            )?,
        };
        registry.register(Box::new(metrics.lag_seconds.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.steps.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }
}
