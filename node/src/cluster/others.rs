use std::sync::{Arc, OnceLock};

use aesp_cluster::peer::Peers;

/// The links to the other nodes, from the moment that there are any. A node that is alone never has them. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Others(Arc<OnceLock<Peers>>);

impl Others {
    /// Puts the links there, once.
    pub(crate) fn connect(&self, peers: Peers) {
        // The first ones stay: a node has one place in its cluster.
        let _ = self.0.set(peers);
    }

    /// Returns the links.
    pub(crate) fn peers(&self) -> Option<&Peers> {
        self.0.get()
    }
}
