use std::{fmt, sync::Arc};

use prometheus::{IntCounterVec, Opts, Registry};

/// Hears which kind of actor is about to handle a message, in that actor's task.
pub type BeforeMessage = Arc<dyn Fn(&'static str) + Send + Sync>;

/// What supervisors count, by the actors' kind.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) restarts: IntCounterVec,
    pub(crate) panics: IntCounterVec,
    pub(crate) parks: IntCounterVec,
    pub(crate) escalations: IntCounterVec,
    pub(crate) before_message: Option<BeforeMessage>,
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
            before_message: None,
        })
    }

    /// Has `before` hear of each message before its actor does. A panic of `before` is the actor's: for tests of what a crash does.
    #[must_use]
    pub fn before_each_message(self, before: BeforeMessage) -> Self {
        Self { before_message: Some(before), ..self }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
