use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// What the index counts. No label names a tenant.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) indexed_events: IntCounter,
    pub(crate) repaired_segments: IntCounter,
    pub(crate) search_seconds: Histogram,
    pub(crate) statistics_seconds: Histogram,
    /// Streams of events that are open at this node; counted by who serves them.
    pub followers: IntGauge,
}

impl Metrics {
    /// Creates the metrics, without a place where they are shown.
    ///
    /// # Errors
    /// Never: their names are sound.
    pub fn unregistered() -> Result<Self, prometheus::Error> {
        let seconds = |name: &str, help: &str| {
            let buckets = vec![0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
        };
        Ok(Self {
            indexed_events: IntCounter::new("aesp_search_indexed_events_total", "Events indexed.")?,
            repaired_segments: IntCounter::new(
                "aesp_search_repaired_segments_total",
                "Segments of an audit index that were damaged and made anew.",
            )?,
            search_seconds: seconds("aesp_search_page_seconds", "Time for one page of events.")?,
            statistics_seconds: seconds("aesp_search_statistics_seconds", "Time for one count of events.")?,
            followers: IntGauge::new("aesp_search_followers", "Streams of audit events that are open.")?,
        })
    }

    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::unregistered()?;
        registry.register(Box::new(metrics.indexed_events.clone()))?;
        registry.register(Box::new(metrics.repaired_segments.clone()))?;
        registry.register(Box::new(metrics.search_seconds.clone()))?;
        registry.register(Box::new(metrics.statistics_seconds.clone()))?;
        registry.register(Box::new(metrics.followers.clone()))?;
        Ok(metrics)
    }
}
