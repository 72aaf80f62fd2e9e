use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

/// What backups count. All but `leader` say something on the node that takes the backups only, and are 0 elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// 1 on the node that takes the backups.
    pub(super) leader: IntGauge,
    pub(super) age_seconds: Gauge,
    pub(super) snapshot_timestamp_seconds: Gauge,
    pub(super) snapshot_bytes: IntGauge,
    pub(super) journal_bytes: IntGauge,
    pub(super) shipped_bytes: IntCounter,
    pub(super) segments: IntCounter,
    /// By `what`: `archive`, `ship`, `snapshot`, `drill`.
    pub(super) failures: IntCounterVec,
    pub(super) drill_passed: IntGauge,
    pub(super) drill_overdue: IntGauge,
    pub(super) drill_timestamp_seconds: Gauge,
    pub(super) drill_rpo_seconds: Gauge,
    pub(super) drill_rto_seconds: Gauge,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// If the registry has some of these names already.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::new()?;
        let all: [Box<dyn Collector>; 13] = [
            Box::new(metrics.leader.clone()),
            Box::new(metrics.age_seconds.clone()),
            Box::new(metrics.snapshot_timestamp_seconds.clone()),
            Box::new(metrics.snapshot_bytes.clone()),
            Box::new(metrics.journal_bytes.clone()),
            Box::new(metrics.shipped_bytes.clone()),
            Box::new(metrics.segments.clone()),
            Box::new(metrics.failures.clone()),
            Box::new(metrics.drill_passed.clone()),
            Box::new(metrics.drill_overdue.clone()),
            Box::new(metrics.drill_timestamp_seconds.clone()),
            Box::new(metrics.drill_rpo_seconds.clone()),
            Box::new(metrics.drill_rto_seconds.clone()),
        ];
        for metric in all {
            registry.register(metric)?;
        }
        Ok(metrics)
    }

    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            leader: IntGauge::new("aesp_backup_leader", "1 on the node that takes the backups.")?,
            age_seconds: Gauge::new(
                "aesp_backup_restorable_to_age_seconds",
                "How long ago the last moment is to which the store can be restored.",
            )?,
            snapshot_timestamp_seconds: Gauge::new(
                "aesp_backup_last_snapshot_timestamp_seconds",
                "When the last complete snapshot was begun, since 1970.",
            )?,
            snapshot_bytes: IntGauge::new(
                "aesp_backup_last_snapshot_bytes",
                "Bytes of the last complete snapshot in the archive.",
            )?,
            journal_bytes: IntGauge::new(
                "aesp_backup_journal_bytes",
                "Bytes of the journal that the store still holds.",
            )?,
            shipped_bytes: IntCounter::new("aesp_backup_shipped_bytes_total", "Bytes of segments shipped.")?,
            segments: IntCounter::new("aesp_backup_segments_total", "Segments of the journal shipped.")?,
            failures: IntCounterVec::new(
                Opts::new("aesp_backup_failures_total", "Attempts of backups that failed."),
                &["what"],
            )?,
            drill_passed: IntGauge::new("aesp_backup_last_drill_passed", "1 if the last drill passed.")?,
            drill_overdue: IntGauge::new(
                "aesp_backup_drill_overdue",
                "1 if no drill was made in time, or the last one failed.",
            )?,
            drill_timestamp_seconds: Gauge::new(
                "aesp_backup_last_drill_timestamp_seconds",
                "When the last drill was begun, since 1970.",
            )?,
            drill_rpo_seconds: Gauge::new(
                "aesp_backup_last_drill_rpo_seconds",
                "What a disaster at the last drill would have lost.",
            )?,
            drill_rto_seconds: Gauge::new(
                "aesp_backup_last_drill_rto_seconds",
                "How long the last drill took to restore and check everything.",
            )?,
        })
    }
}
