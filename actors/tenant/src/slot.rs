use std::sync::Arc;

use crate::gate::Gate;

/// A call's place within the tenant's limits; free again when it is dropped.
#[derive(Debug)]
#[must_use = "the place is free again when this is dropped"]
pub struct CallSlot(pub(crate) Arc<Gate>);

impl Drop for CallSlot {
    fn drop(&mut self) {
        self.0.calls.give();
    }
}

/// A connected Runtime's place within the tenant's limits; free again when it is dropped.
#[derive(Debug)]
#[must_use = "the place is free again when this is dropped"]
pub struct RuntimeSlot(pub(crate) Arc<Gate>);

impl Drop for RuntimeSlot {
    fn drop(&mut self) {
        self.0.runtimes.give();
    }
}

/// A new session's place within the tenant's limits. Dropped, it counts as stored: who knows better says so.
#[derive(Debug)]
#[must_use = "the place is counted as a stored session when this is dropped"]
pub struct SessionSlot(pub(crate) Option<Arc<Gate>>);

impl SessionSlot {
    /// Nothing was stored, for sure: the place is free again.
    pub fn unused(mut self) {
        if let Some(gate) = self.0.take() {
            gate.sessions.give();
        }
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.session_stored();
        }
    }
}
