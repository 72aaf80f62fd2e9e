use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What Runtime connections count. No label names a tenant, session or Runtime.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) connections: IntGauge,
    pub(crate) outstanding: IntGauge,
    pub(crate) queued: IntGauge,
    pub(crate) dispatches: IntCounter,
    pub(crate) refused: IntCounterVec,
    pub(crate) results: IntCounterVec,
    pub(crate) violations: IntCounter,
    pub(crate) remote: IntCounterVec,
    pub(crate) resyncs: IntCounter,
    pub(crate) peer_contracts: IntGauge,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let labelled = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            connections: gauge("aesp_runtime_connections", "Runtime connections that serve.")?,
            outstanding: gauge("aesp_runtime_outstanding_calls", "Calls that Runtimes work on.")?,
            queued: gauge("aesp_runtime_queued_calls", "Calls that wait for a Runtime's credits.")?,
            dispatches: counter("aesp_runtime_dispatches_total", "Calls sent to Runtimes.")?,
            refused: labelled(
                "aesp_runtime_refused_total",
                "Connections, tools and calls that were refused.",
                "what",
            )?,
            results: labelled(
                "aesp_runtime_unexpected_results_total",
                "Results that nobody waited for, came twice, or could not be used.",
                "kind",
            )?,
            violations: counter("aesp_runtime_violations_total", "Frames that violate the protocol.")?,
            remote: labelled(
                "aesp_runtime_remote_dispatches_total",
                "Calls that were given to another node's Runtimes, or taken from another node.",
                "how",
            )?,
            resyncs: counter(
                "aesp_runtime_resyncs_total",
                "How often something that a peer told of its Runtimes was missed, and all of it asked for.",
            )?,
            peer_contracts: gauge(
                "aesp_runtime_peer_contracts",
                "Contracts that Runtimes of other nodes fulfil, counted at each node.",
            )?,
        })
    }
}
