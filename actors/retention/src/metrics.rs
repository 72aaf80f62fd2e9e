use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What is counted of retention. No label names a tenant.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) destroyed: IntCounterVec,
    pub(crate) swept: IntCounter,
    pub(crate) waiting: IntGauge,
    pub(crate) held: IntGauge,
    pub(crate) failures: IntCounter,
    pub(crate) archived: IntCounter,
}

impl Metrics {
    /// Creates the metrics, without a place where they are shown.
    ///
    /// # Errors
    /// Never: their names are sound.
    pub fn unregistered() -> Result<Self, prometheus::Error> {
        Ok(Self {
            destroyed: IntCounterVec::new(
                Opts::new("aesp_retention_destroyed_keys_total", "Audit keys that this node destroyed."),
                &["of"],
            )?,
            swept: IntCounter::new(
                "aesp_retention_erased_events_total",
                "Audit events that were found unreadable after their keys were destroyed.",
            )?,
            waiting: IntGauge::new(
                "aesp_retention_sweeping_tenants",
                "Tenants of this node whose logs are gone through for erased events.",
            )?,
            held: IntGauge::new(
                "aesp_retention_holds_in_the_way",
                "Legal holds of this node's tenants that keep partitions whose time is over.",
            )?,
            archived: IntCounter::new(
                "aesp_retention_archived_events_total",
                "Audit events that this node moved to the object store.",
            )?,
            failures: IntCounter::new(
                "aesp_retention_failures_total",
                "Looks at a tenant's retention that failed and are made again.",
            )?,
        })
    }

    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::unregistered()?;
        registry.register(Box::new(metrics.destroyed.clone()))?;
        registry.register(Box::new(metrics.swept.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.held.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.archived.clone()))?;
        Ok(metrics)
    }

    /// Counts keys of persons that were destroyed because somebody asked for it.
    pub fn erased(&self, keys: usize) {
        self.destroyed.with_label_values(&["subject"]).inc_by(keys as u64);
    }
}
