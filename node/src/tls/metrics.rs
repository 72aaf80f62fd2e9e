use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What the TLS layer counts.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Handshakes by listener and outcome (`accepted`, or the reason of the refusal).
    pub(super) handshakes: IntCounterVec,
    /// Open connections by listener.
    pub(super) connections: IntGaugeVec,
    /// Connections that were closed because of their certificate, by reason.
    pub(super) closed: IntCounterVec,
    /// Reloads of certificates and revocation lists by outcome.
    pub(super) reloads: IntCounterVec,
    /// When the node's certificate ends, in seconds since the epoch.
    pub(super) certificate_end: IntGauge,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of the same names.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let handshakes = Opts::new("aesp_tls_handshakes_total", "TLS handshakes by listener and outcome.");
        let connections = Opts::new("aesp_tls_connections", "Open TLS connections by listener.");
        let closed =
            Opts::new("aesp_tls_connections_closed_total", "Connections closed for their certificate.");
        let reloads = Opts::new("aesp_tls_reloads_total", "Reloads of certificates and revocation lists.");
        let metrics = Self {
            handshakes: IntCounterVec::new(handshakes, &["listener", "outcome"])?,
            connections: IntGaugeVec::new(connections, &["listener"])?,
            closed: IntCounterVec::new(closed, &["reason"])?,
            reloads: IntCounterVec::new(reloads, &["outcome"])?,
            certificate_end: IntGauge::new(
                "aesp_tls_certificate_not_after_seconds",
                "When the node's certificate ends, Unix time.",
            )?,
        };
        registry.register(Box::new(metrics.handshakes.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.closed.clone()))?;
        registry.register(Box::new(metrics.reloads.clone()))?;
        registry.register(Box::new(metrics.certificate_end.clone()))?;
        Ok(metrics)
    }
}
