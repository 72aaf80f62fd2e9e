use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// What membership, leases, shards and barriers count. No label names a node: incarnations are unbounded.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Living nodes, by `state`.
    pub(crate) nodes: IntGaugeVec,
    /// Shards that this node may act for.
    pub(crate) shards: IntGauge,
    /// By `outcome`: `renewed`, `late`, `behind`, `failed`, `over`.
    pub(crate) renewals: IntCounterVec,
    pub(crate) renewal_seconds: Histogram,
    pub(crate) lapses: IntCounter,
    pub(crate) deaths: IntCounter,
    pub(crate) taken: IntCounter,
    pub(crate) handed_over: IntCounter,
    pub(crate) arrived: IntCounter,
    pub(crate) handover_seconds: Histogram,
    /// By `outcome`: `passed`, `failed`.
    pub(crate) barriers: IntCounterVec,
    pub(crate) barrier_seconds: Histogram,
    pub(crate) rights_behind: IntGauge,
    pub(crate) apply_failures: IntCounter,
    pub(crate) skew_ms: IntGauge,
    pub(crate) damaged_rows: IntGauge,
    /// By `notice`.
    pub(crate) notices: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// If the registry has some of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::new()?;
        let all: [Box<dyn Collector>; 17] = [
            Box::new(metrics.nodes.clone()),
            Box::new(metrics.shards.clone()),
            Box::new(metrics.renewals.clone()),
            Box::new(metrics.renewal_seconds.clone()),
            Box::new(metrics.lapses.clone()),
            Box::new(metrics.deaths.clone()),
            Box::new(metrics.taken.clone()),
            Box::new(metrics.handed_over.clone()),
            Box::new(metrics.arrived.clone()),
            Box::new(metrics.handover_seconds.clone()),
            Box::new(metrics.barriers.clone()),
            Box::new(metrics.barrier_seconds.clone()),
            Box::new(metrics.rights_behind.clone()),
            Box::new(metrics.apply_failures.clone()),
            Box::new(metrics.skew_ms.clone()),
            Box::new(metrics.damaged_rows.clone()),
            Box::new(metrics.notices.clone()),
        ];
        for metric in all {
            registry.register(metric)?;
        }
        Ok(metrics)
    }

    fn new() -> Result<Self, prometheus::Error> {
        let by = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let seconds = |name: &str, help: &str| {
            let buckets = vec![0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
        };
        Ok(Self {
            nodes: IntGaugeVec::new(
                Opts::new("aesp_cluster_nodes", "Living nodes as the store knows them."),
                &["state"],
            )?,
            shards: IntGauge::new("aesp_cluster_held_shards", "Shards that this node may act for.")?,
            renewals: by("aesp_cluster_renewals_total", "Attempts to renew the lease.", "outcome")?,
            renewal_seconds: seconds("aesp_cluster_renewal_seconds", "How long renewals took.")?,
            lapses: IntCounter::new(
                "aesp_cluster_lease_lapses_total",
                "Leases that were not renewed in time.",
            )?,
            deaths: IntCounter::new("aesp_cluster_deaths_total", "Nodes that this one declared dead.")?,
            taken: IntCounter::new(
                "aesp_cluster_shards_taken_total",
                "Shards taken from the dead, or from nobody.",
            )?,
            handed_over: IntCounter::new("aesp_cluster_shards_handed_over_total", "Shards handed over.")?,
            arrived: IntCounter::new("aesp_cluster_shards_arrived_total", "Shards taken up.")?,
            handover_seconds: seconds("aesp_cluster_handover_seconds", "How long shards were leaving.")?,
            barriers: by("aesp_cluster_barriers_total", "Waits for changed rights to hold.", "outcome")?,
            barrier_seconds: seconds(
                "aesp_cluster_barrier_seconds",
                "How long it took until changed rights held everywhere.",
            )?,
            rights_behind: IntGauge::new(
                "aesp_cluster_rights_behind",
                "Changes of rights not applied here yet.",
            )?,
            apply_failures: IntCounter::new(
                "aesp_cluster_apply_failures_total",
                "Changes of rights that could not be applied at once.",
            )?,
            skew_ms: IntGauge::new(
                "aesp_cluster_clock_skew_ms",
                "How far this clock is ahead of the median.",
            )?,
            damaged_rows: IntGauge::new(
                "aesp_cluster_damaged_rows",
                "Rows of the cluster that can't be read.",
            )?,
            notices: by("aesp_cluster_notices_total", "What an operator should know of.", "notice")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_register_once() {
        let registry = Registry::new();
        Metrics::register(&registry).unwrap();
        assert!(Metrics::register(&registry).is_err());
    }
}
