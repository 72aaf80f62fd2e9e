use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

/// What peer links count. No label names a peer: incarnations are unbounded.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) links: IntGauge,
    /// By `outcome`: `connected`, or why not.
    pub(crate) dials: IntCounterVec,
    /// By `reason`.
    pub(crate) refused: IntCounterVec,
    /// Ended links, by `reason`.
    pub(crate) ended: IntCounterVec,
    /// By `topic` and `outcome`: `sent`, or why not.
    pub(crate) requests: IntCounterVec,
    pub(crate) sent_frames: IntCounter,
    pub(crate) sent_batches: IntCounter,
    pub(crate) received_frames: IntCounter,
    pub(crate) panics: IntCounter,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// If the registry has some of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::new()?;
        let all: [Box<dyn Collector>; 9] = [
            Box::new(metrics.links.clone()),
            Box::new(metrics.dials.clone()),
            Box::new(metrics.refused.clone()),
            Box::new(metrics.ended.clone()),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.sent_frames.clone()),
            Box::new(metrics.sent_batches.clone()),
            Box::new(metrics.received_frames.clone()),
            Box::new(metrics.panics.clone()),
        ];
        for metric in all {
            registry.register(metric)?;
        }
        Ok(metrics)
    }

    fn new() -> Result<Self, prometheus::Error> {
        let by = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        Ok(Self {
            links: IntGauge::new("aesp_peer_links", "Open links to other nodes.")?,
            dials: by("aesp_peer_dials_total", "Attempts to connect to another node.", &["outcome"])?,
            refused: by("aesp_peer_refused_total", "Connections of peers that were refused.", &["reason"])?,
            ended: by("aesp_peer_links_ended_total", "Links that ended.", &["reason"])?,
            requests: by("aesp_peer_requests_total", "Requests to other nodes.", &["topic", "outcome"])?,
            sent_frames: IntCounter::new("aesp_peer_sent_frames_total", "Frames sent to other nodes.")?,
            sent_batches: IntCounter::new("aesp_peer_sent_batches_total", "Batches sent to other nodes.")?,
            received_frames: IntCounter::new(
                "aesp_peer_received_frames_total",
                "Frames received from other nodes.",
            )?,
            panics: IntCounter::new(
                "aesp_peer_request_panics_total",
                "Requests of other nodes that panicked here.",
            )?,
        })
    }
}
