use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// What the gates count. No label names a tenant.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// By `limit`: `calls`, `sessions`, `runtimes`.
    pub(crate) refused: IntCounterVec,
    pub(crate) tenants: IntGauge,
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
            tenants: IntGauge::new("aesp_tenant_gates", "Tenants that this node spends a lease of.")?,
        };
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.tenants.clone()))?;
        Ok(metrics)
    }
}
