use prometheus::{Error, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector};

/// What sinks count, by `sink`: their names are the operator's and few. The gauges tell of this node's part of a sink.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) lag_seconds: GaugeVec,
    pub(crate) pending: IntGaugeVec,
    pub(crate) blocked: IntGaugeVec,
    pub(crate) delivered: IntCounterVec,
    pub(crate) dead_letters: IntCounterVec,
    /// By `sink` and `cause`.
    pub(crate) failures: IntCounterVec,
    pub(crate) delivery_seconds: prometheus::HistogramVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// If the registry has some of these names already.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self::new()?;
        let all: [Box<dyn Collector>; 7] = [
            Box::new(metrics.lag_seconds.clone()),
            Box::new(metrics.pending.clone()),
            Box::new(metrics.blocked.clone()),
            Box::new(metrics.delivered.clone()),
            Box::new(metrics.dead_letters.clone()),
            Box::new(metrics.failures.clone()),
            Box::new(metrics.delivery_seconds.clone()),
        ];
        for metric in all {
            registry.register(metric)?;
        }
        Ok(metrics)
    }

    fn new() -> Result<Self, Error> {
        let counter =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let seconds = prometheus::HistogramOpts::new(
            "aesp_audit_sink_delivery_seconds",
            "Time from the sending of a batch to the sink's answer.",
        )
        .buckets(prometheus::exponential_buckets(0.001, 4.0, 9)?);
        Ok(Self {
            lag_seconds: GaugeVec::new(
                Opts::new(
                    "aesp_audit_sink_lag_seconds",
                    "How long the event has waited that waits longest for the sink.",
                ),
                &["sink"],
            )?,
            pending: IntGaugeVec::new(
                Opts::new(
                    "aesp_audit_sink_pending_events",
                    "Events in hand that the sink has not taken; those not yet read from the log are not among them.",
                ),
                &["sink"],
            )?,
            blocked: IntGaugeVec::new(
                Opts::new("aesp_audit_sink_blocked", "1 while the sink takes nothing."),
                &["sink"],
            )?,
            delivered: counter(
                "aesp_audit_sink_delivered_events_total",
                "Events that the sink has confirmed.",
                &["sink"],
            )?,
            dead_letters: counter(
                "aesp_audit_sink_dead_letters_total",
                "Events that the sink refused for good.",
                &["sink"],
            )?,
            failures: counter(
                "aesp_audit_sink_failures_total",
                "Batches that the sink did not take, by cause.",
                &["sink", "cause"],
            )?,
            delivery_seconds: prometheus::HistogramVec::new(seconds, &["sink"])?,
        })
    }
}

impl Default for Metrics {
    /// Returns metrics that nobody collects.
    fn default() -> Self {
        Self::new().expect("names and buckets are constants")
    }
}
