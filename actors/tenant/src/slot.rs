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

/// A new session's place within the tenant's limits: free again when this is dropped, unless the session was stored.
#[derive(Debug)]
#[must_use = "the place is free again when this is dropped"]
pub struct SessionSlot(pub(crate) Option<Arc<Gate>>);

impl SessionSlot {
    /// The session is stored: the place is taken until [`crate::Tenants::release_sessions`].
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.sessions.give_any();
        }
    }
}
