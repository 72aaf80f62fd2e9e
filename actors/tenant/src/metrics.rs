use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What the gates and homes count. No label names a tenant.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// By `limit`: `calls`, `rate`, `sessions`, `runtimes`.
    pub(crate) refused: IntCounterVec,
    pub(crate) tenants: IntGauge,
    pub(crate) homes: IntGauge,
    /// By `outcome`: `granted`, `at_limit`, `unknown`.
    pub(crate) waits: IntCounterVec,
    pub(crate) wait_seconds: Histogram,
    pub(crate) written: IntCounter,
    pub(crate) counted: IntCounter,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            refused: IntCounterVec::new(
                Opts::new("aesp_tenant_refusals_total", "Admissions refused by a tenant's quota."),
                &["limit"],
            )?,
            tenants: IntGauge::new("aesp_tenant_gates", "Tenants that this node may use credits of.")?,
            homes: IntGauge::new("aesp_tenant_homes", "Tenants whose credits this node hands out.")?,
            waits: IntCounterVec::new(
                Opts::new("aesp_tenant_credit_waits_total", "Admissions that had to ask for credits."),
                &["outcome"],
            )?,
            wait_seconds: Histogram::with_opts(
                HistogramOpts::new("aesp_tenant_credit_wait_seconds", "How long they waited.")
                    .buckets(vec![0.0002, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0]),
            )?,
            written: IntCounter::new(
                "aesp_tenant_credit_writes_total",
                "Commits of the most that nodes may hold of a tenant's limits.",
            )?,
            counted: IntCounter::new("aesp_tenant_session_counts_total", "Counts of a tenant's sessions.")?,
        };
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.tenants.clone()))?;
        registry.register(Box::new(metrics.homes.clone()))?;
        registry.register(Box::new(metrics.waits.clone()))?;
        registry.register(Box::new(metrics.wait_seconds.clone()))?;
        registry.register(Box::new(metrics.written.clone()))?;
        registry.register(Box::new(metrics.counted.clone()))?;
        Ok(metrics)
    }
}
