use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// What forwarding counts. No label names a node, a tenant or a session.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Requests of clients that another node answered, by `outcome`.
    pub(super) forwarded: IntCounterVec,
    /// Requests that were tried again, by `reason`.
    pub(super) again: IntCounterVec,
    /// What the way to the other node and back added.
    pub(super) added_seconds: Histogram,
    /// Requests of other nodes, by `outcome`.
    pub(super) served: IntCounterVec,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of the same names.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let added = HistogramOpts::new(
            "aesp_forward_added_seconds",
            "What the way to another node and back added to a request.",
        );
        let buckets = vec![0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 6.0];
        let metrics = Self {
            forwarded: by(
                "aesp_forwarded_requests_total",
                "Requests of clients for another node.",
                "outcome",
            )?,
            again: by("aesp_forward_retries_total", "Forwarded requests that were tried again.", "reason")?,
            added_seconds: Histogram::with_opts(added.buckets(buckets))?,
            served: by("aesp_forward_served_total", "Requests served for other nodes.", "outcome")?,
        };
        registry.register(Box::new(metrics.forwarded.clone()))?;
        registry.register(Box::new(metrics.again.clone()))?;
        registry.register(Box::new(metrics.added_seconds.clone()))?;
        registry.register(Box::new(metrics.served.clone()))?;
        Ok(metrics)
    }
}
