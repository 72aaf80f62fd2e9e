use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{Component, ReadinessProbe};

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

    /// Returns how each component is.
    pub(crate) fn components(&self) -> Vec<Component> {
        (self.probe)()
    }

    /// Returns why the node is not ready, if it isn't: those of these components that it needs and that do not do their work.
    pub(crate) fn judge(&self, components: &[Component]) -> Result<(), String> {
        if self.leaving.load(Ordering::SeqCst) {
            return Err("shutting down".into());
        }
        let wrong = components.iter().filter(|component| component.needed);
        let wrong: Vec<String> = wrong
            .filter_map(|Component { name, state, .. }| Some(format!("{name}: {}", state.as_ref().err()?)))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_keeps_nobody_from_being_ready() {
        let component = |name, needed, state: Result<(), &str>| Component {
            name,
            needed,
            state: state.map_err(str::to_owned),
        };
        let readiness = Readiness::new(Arc::new(Vec::new));
        let good = [component("store", true, Ok(())), component("peers", false, Err("no links"))];
        assert_eq!(readiness.judge(&good), Ok(()));
        let bad = [component("store", true, Err("away")), component("audit", true, Err("parked"))];
        assert_eq!(readiness.judge(&bad), Err("store: away; audit: parked".into()));
        readiness.leave();
        assert_eq!(readiness.judge(&good), Err("shutting down".into()));
    }
}
