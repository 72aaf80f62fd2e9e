use std::sync::Arc;

use aesp_proto::v1::ContractDraft;
use tokio::sync::watch;

use crate::runtime::{
    shared::{Shared, lock},
    status::RuntimeStatus,
    tool::Tool,
};

/// Directs a [`crate::Runtime`] that runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RuntimeHandle(Arc<Shared>);

impl RuntimeHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Takes no new calls, finishes those that run, waits until the Host has their results, and leaves;
    /// [`crate::Runtime::run`] returns then. `reason` is for the Host's operators.
    pub fn drain(&self, reason: &str) {
        let mut slot = lock(&self.0.drain_reason);
        if !self.0.drain.is_cancelled() {
            reason.clone_into(&mut slot);
        }
        drop(slot);
        self.0.drain.cancel();
    }

    /// Returns where the Runtime stands, from moment to moment.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<RuntimeStatus> {
        self.0.status.subscribe()
    }

    /// Returns how many calls run now.
    #[must_use]
    pub fn running_calls(&self) -> usize {
        self.0.ledger().running()
    }

    /// Offers more tools, or others under the same names, from now on.
    pub fn offer(&self, tools: Vec<Tool>) {
        self.0.offer(tools);
    }

    /// Offers these tools no longer. Calls that run go on. `reason` is for the Host's operators.
    pub fn withdraw(&self, names: &[String], reason: &str) {
        self.0.withdraw(names, reason);
    }

    /// Registers tools with contracts of the Runtime's own making for one session. Only a tenant in DEVELOPMENT mode allows
    /// that; [`RuntimeStatus::registered`] and [`RuntimeStatus::not_registered`] tell what the Host says.
    pub fn register(&self, session_id: &str, tools: Vec<(ContractDraft, Tool)>) {
        self.0.register(session_id, tools);
    }

    /// Forgets what was registered for a session that is over.
    pub fn unregister(&self, session_id: &str) {
        self.0.unregister(session_id);
    }

    /// Returns the names of the tools that are offered.
    #[must_use]
    pub fn offered(&self) -> Vec<String> {
        self.0.tool_names()
    }
}
