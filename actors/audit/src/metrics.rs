use std::sync::Arc;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

use crate::Error;

/// What the audit writer counts. Has no label for tenants: they are unbounded.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) events: IntCounter,
    pub(crate) commits: IntCounter,
    pub(crate) commit_units: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) commit_failures: IntCounter,
    pub(crate) queue_depth: IntGauge,
    pub(crate) failed_units: IntCounter,
    /// By `reason`: `overloaded`, `parked`, `stopped`.
    pub(crate) refused_units: IntCounterVec,
    pub(crate) refused_strangers: IntCounter,
    pub(crate) writers: IntCounter,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// [`Error::Metrics`] if the registry has some of these names already.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self::new().map_err(failed)?;
        let all: [Box<dyn Collector>; 10] = [
            Box::new(metrics.events.clone()),
            Box::new(metrics.commits.clone()),
            Box::new(metrics.commit_units.clone()),
            Box::new(metrics.commit_seconds.clone()),
            Box::new(metrics.commit_failures.clone()),
            Box::new(metrics.queue_depth.clone()),
            Box::new(metrics.failed_units.clone()),
            Box::new(metrics.refused_units.clone()),
            Box::new(metrics.refused_strangers.clone()),
            Box::new(metrics.writers.clone()),
        ];
        for metric in all {
            registry.register(metric).map_err(failed)?;
        }
        Ok(metrics)
    }

    fn new() -> Result<Self, prometheus::Error> {
        let units = HistogramOpts::new("aesp_audit_commit_units", "Units in one commit of the audit writer.")
            .buckets(prometheus::exponential_buckets(1.0, 4.0, 7)?);
        let seconds =
            HistogramOpts::new("aesp_audit_commit_seconds", "Time of one commit of the audit writer.")
                .buckets(prometheus::exponential_buckets(0.000_5, 2.0, 14)?);
        let refused =
            Opts::new("aesp_audit_refused_units_total", "Units that the audit writer did not take on.");
        let counter = |name: &str, help: &str| IntCounter::new(name, help);
        Ok(Self {
            events: counter("aesp_audit_events_total", "Events written durably.")?,
            commits: counter("aesp_audit_commits_total", "Commits of the audit writer.")?,
            commit_units: Histogram::with_opts(units)?,
            commit_seconds: Histogram::with_opts(seconds)?,
            commit_failures: counter(
                "aesp_audit_commit_failures_total",
                "Commits that failed with all their units.",
            )?,
            queue_depth: IntGauge::new("aesp_audit_queue_units", "Units that wait for the audit writer.")?,
            failed_units: counter("aesp_audit_failed_units_total", "Units that failed by themselves.")?,
            refused_units: IntCounterVec::new(refused, &["reason"])?,
            refused_strangers: counter(
                "aesp_audit_refused_strangers_total",
                "Refusals before authentication, which are written aggregated.",
            )?,
            writers: counter("aesp_audit_writers_total", "Chains of this process begun anew.")?,
        })
    }
}

impl Default for Metrics {
    /// Returns metrics that nobody collects.
    fn default() -> Self {
        Self::new().expect("names and buckets are constants")
    }
}

fn failed(error: prometheus::Error) -> Error {
    Error::Metrics(Arc::new(error))
}
