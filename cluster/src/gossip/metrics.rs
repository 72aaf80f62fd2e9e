use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

/// What the gossip counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) alive: IntGauge,
    pub(crate) sent: IntCounter,
    pub(crate) sent_bytes: IntCounter,
    /// By `reason`.
    pub(crate) unsent: IntCounterVec,
    pub(crate) received: IntCounter,
    /// By `reason`.
    pub(crate) rejected: IntCounterVec,
    pub(crate) respawns: IntCounter,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// If the registry has some of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::new()?;
        let all: [Box<dyn Collector>; 7] = [
            Box::new(metrics.alive.clone()),
            Box::new(metrics.sent.clone()),
            Box::new(metrics.sent_bytes.clone()),
            Box::new(metrics.unsent.clone()),
            Box::new(metrics.received.clone()),
            Box::new(metrics.rejected.clone()),
            Box::new(metrics.respawns.clone()),
        ];
        for metric in all {
            registry.register(metric)?;
        }
        Ok(metrics)
    }

    fn new() -> Result<Self, prometheus::Error> {
        let by_reason = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["reason"]);
        Ok(Self {
            alive: IntGauge::new("aesp_gossip_alive_nodes", "Other nodes that are probably alive.")?,
            sent: IntCounter::new("aesp_gossip_sent_datagrams_total", "Gossip datagrams sent.")?,
            sent_bytes: IntCounter::new("aesp_gossip_sent_bytes_total", "Bytes of gossip datagrams sent.")?,
            unsent: by_reason(
                "aesp_gossip_unsent_datagrams_total",
                "Gossip datagrams that could not be sent.",
            )?,
            received: IntCounter::new("aesp_gossip_received_datagrams_total", "Gossip datagrams received.")?,
            rejected: by_reason("aesp_gossip_rejected_datagrams_total", "Datagrams that were not used.")?,
            respawns: IntCounter::new(
                "aesp_gossip_respawns_total",
                "Gossip loops that ended and began again.",
            )?,
        })
    }
}
