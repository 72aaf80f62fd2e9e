use prometheus::{
    Error, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// What alerts count. Receivers' names are the operator's and few; no label names a tenant or a rule.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) rules: IntGauge,
    pub(crate) firing: IntGaugeVec,
    pub(crate) fired: IntCounterVec,
    pub(crate) resolved: IntCounterVec,
    pub(crate) escalated: IntCounter,
    pub(crate) undeliverable: IntCounter,
    pub(crate) overflows: IntCounter,
    pub(crate) pending: IntGaugeVec,
    pub(crate) late_seconds: GaugeVec,
    /// By `receiver` and `outcome`.
    pub(crate) deliveries: IntCounterVec,
    /// By `receiver` and `cause`.
    pub(crate) failures: IntCounterVec,
    pub(crate) seconds: HistogramVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// If the registry has some of these names already.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self::new()?;
        let all: [Box<dyn Collector>; 12] = [
            Box::new(metrics.rules.clone()),
            Box::new(metrics.firing.clone()),
            Box::new(metrics.fired.clone()),
            Box::new(metrics.resolved.clone()),
            Box::new(metrics.escalated.clone()),
            Box::new(metrics.undeliverable.clone()),
            Box::new(metrics.overflows.clone()),
            Box::new(metrics.pending.clone()),
            Box::new(metrics.late_seconds.clone()),
            Box::new(metrics.deliveries.clone()),
            Box::new(metrics.failures.clone()),
            Box::new(metrics.seconds.clone()),
        ];
        for metric in all {
            registry.register(metric)?;
        }
        Ok(metrics)
    }

    fn new() -> Result<Self, Error> {
        let counters =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let gauges =
            |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let seconds = prometheus::HistogramOpts::new(
            "aesp_alert_delivery_seconds",
            "Time from the sending of a message about alerts to the receiver's answer.",
        )
        .buckets(prometheus::exponential_buckets(0.001, 4.0, 9)?);
        Ok(Self {
            rules: IntGauge::new("aesp_alert_rules", "Alert rules at work at this node, over its tenants.")?,
            firing: gauges(
                "aesp_alerts_firing",
                "Alerts that last, of the tenants whose home this node is.",
                &["severity"],
            )?,
            fired: counters("aesp_alerts_fired_total", "Alerts that began.", &["severity"])?,
            resolved: counters("aesp_alerts_resolved_total", "Alerts that ended.", &["severity"])?,
            escalated: IntCounter::new(
                "aesp_alerts_escalated_total",
                "Steps of escalations that were taken.",
            )?,
            undeliverable: IntCounter::new(
                "aesp_alerts_undeliverable_total",
                "Alerts of which a receiver could not be told because there is none of its name, or not for that tenant.",
            )?,
            overflows: IntCounter::new(
                "aesp_alert_group_overflows_total",
                "Alerts about rules that had more groups than they may have.",
            )?,
            pending: gauges(
                "aesp_alert_pending_messages",
                "Messages about alerts that are due.",
                &["receiver"],
            )?,
            late_seconds: GaugeVec::new(
                Opts::new(
                    "aesp_alert_late_seconds",
                    "How late the message about alerts is that waits longest.",
                ),
                &["receiver"],
            )?,
            deliveries: counters(
                "aesp_alert_deliveries_total",
                "Messages about alerts, by what became of them: delivered, failed (tried again) or dead.",
                &["receiver", "outcome"],
            )?,
            failures: counters(
                "aesp_alert_delivery_failures_total",
                "Messages that were not taken, by cause.",
                &["receiver", "cause"],
            )?,
            seconds: HistogramVec::new(seconds, &["receiver"])?,
        })
    }
}

impl Default for Metrics {
    /// Returns metrics that nobody collects.
    fn default() -> Self {
        Self::new().expect("names and buckets are constants")
    }
}
