use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::ReadinessProbe;

/// Whether the node wants new work: the components say so, until a shutdown begins.
#[derive(Clone)]
pub(crate) struct Readiness {
    probe: ReadinessProbe,
    leaving: Arc<AtomicBool>,
}

impl Readiness {
    pub(crate) fn new(probe: ReadinessProbe) -> Self {
        Self { probe, leaving: Arc::default() }
    }

    /// Answers no from now on.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    /// Returns why the node is not ready, if it isn't.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.leaving.load(Ordering::SeqCst) {
            return Err("shutting down".into());
        }
        (self.probe)()
    }
}
