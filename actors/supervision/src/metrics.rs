use prometheus::{IntCounterVec, Opts, Registry};

/// What supervisors count, by the actors' kind.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) restarts: IntCounterVec,
    pub(crate) panics: IntCounterVec,
    pub(crate) parks: IntCounterVec,
    pub(crate) escalations: IntCounterVec,
}

impl Metrics {
    /// Creates the counters and registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["actor"])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            restarts: counter("aesp_actor_restarts_total", "Actors restarted after a crash.")?,
            panics: counter("aesp_actor_panics_total", "Panics caught in actors.")?,
            parks: counter("aesp_actor_parks_total", "Actors parked because their store was away.")?,
            escalations: counter(
                "aesp_actor_escalations_total",
                "Actors that crashed beyond their intensity.",
            )?,
        })
    }
}
