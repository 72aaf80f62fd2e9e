use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What is counted about witnesses and anchors. A witness is named as in the configuration: there are few.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) leaves: IntCounter,
    pub(crate) size: IntGauge,
    pub(crate) damaged: IntCounter,
    pub(crate) cosigned: IntCounterVec,
    pub(crate) failures: IntCounterVec,
    pub(crate) refused: IntCounterVec,
    pub(crate) contradicts: IntGaugeVec,
    pub(crate) lag: GaugeVec,
    pub(crate) quorum: IntGauge,
    pub(crate) anchored: IntCounter,
    pub(crate) anchor_failures: IntCounter,
    pub(crate) anchored_size: IntGauge,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let named = ["witness"];
        let metrics = Self {
            leaves: IntCounter::new(
                "aesp_platform_log_leaves_total",
                "Heads of logs that this node appended to the platform log.",
            )?,
            size: IntGauge::new(
                "aesp_platform_log_size",
                "Leaves of the platform log, at its home; elsewhere 0.",
            )?,
            damaged: IntCounter::new(
                "aesp_platform_log_damaged_total",
                "Steps that found the stored platform log other than it was signed, and signed nothing.",
            )?,
            cosigned: IntCounterVec::new(
                Opts::new("aesp_witness_cosigned_total", "Checkpoints that the witness cosigned."),
                &named,
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "aesp_witness_failures_total",
                    "Requests to the witness without an answer to go by.",
                ),
                &["witness", "cause"],
            )?,
            refused: IntCounterVec::new(
                Opts::new("aesp_witness_refused_total", "Answers of the witness that were not believed."),
                &["witness", "reason"],
            )?,
            contradicts: IntGaugeVec::new(
                Opts::new(
                    "aesp_witness_contradicts",
                    "1 while the witness is sent nothing because it remembers another history.",
                ),
                &named,
            )?,
            lag: GaugeVec::new(
                Opts::new(
                    "aesp_witness_lag_seconds",
                    "How long there has been a checkpoint that the witness has not cosigned, at the home.",
                ),
                &named,
            )?,
            quorum: IntGauge::new(
                "aesp_witness_quorum_missing",
                "Witnesses that are missing from the quorum, at the home; elsewhere 0.",
            )?,
            anchored: IntCounter::new("aesp_anchors_total", "Checkpoints that this node anchored.")?,
            anchor_failures: IntCounter::new(
                "aesp_anchor_failures_total",
                "Attempts to anchor that failed.",
            )?,
            anchored_size: IntGauge::new(
                "aesp_anchored_size",
                "Leaves of the last anchored checkpoint, at the home.",
            )?,
        };
        registry.register(Box::new(metrics.leaves.clone()))?;
        registry.register(Box::new(metrics.size.clone()))?;
        registry.register(Box::new(metrics.damaged.clone()))?;
        registry.register(Box::new(metrics.cosigned.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.contradicts.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        registry.register(Box::new(metrics.quorum.clone()))?;
        registry.register(Box::new(metrics.anchored.clone()))?;
        registry.register(Box::new(metrics.anchor_failures.clone()))?;
        registry.register(Box::new(metrics.anchored_size.clone()))?;
        Ok(metrics)
    }

    /// Shows nothing of the log where it is not at home.
    pub(crate) fn step_down(&self) {
        self.size.set(0);
        self.quorum.set(0);
        self.anchored_size.set(0);
        self.lag.reset();
        self.contradicts.reset();
    }
}
