use std::{sync::Arc, time::Duration};

use aesp_proto::{Clock, Entropy};
use aesp_storage::Store;

use crate::{Locality, Metrics, ObserveNotices, gossip::Gossip, peer::Peers};

/// What a node brings to its cluster.
#[derive(Clone)]
pub struct Context {
    /// The store, which is the truth about the cluster.
    pub store: Store,
    /// Tells the wall-clock time that renewals carry.
    pub clock: Arc<dyn Clock>,
    /// Draws the cluster's id, and jitters pauses.
    pub entropy: Entropy,
    /// Counts.
    pub metrics: Metrics,
    /// Hears what an operator should know.
    pub notices: Arc<dyn ObserveNotices>,
}

/// How a node takes part in its cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's name, which no other living node may have.
    pub name: String,
    /// The release that it runs.
    pub version: String,
    /// Host and port of its peer listener; empty for a node that is alone and stays alone.
    pub endpoint: String,
    /// Where it runs.
    pub locality: Locality,
    /// How long the node may act after it began to renew its lease.
    pub lease: Duration,
    /// How long what runs in a shard may go on before the shard is handed over.
    pub grace: Duration,
    /// How far the node's clock may be from the cluster's median.
    pub skew: Duration,
}

impl Options {
    /// Creates the usual options for a node that is alone.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            endpoint: String::new(),
            locality: Locality::default(),
            lease: Duration::from_secs(2),
            grace: Duration::from_secs(20),
            skew: Duration::from_secs(1),
        }
    }
}

/// How a node reaches the others. Hints travel here; nothing that comes over it decides who owns what.
#[derive(Clone)]
pub struct Links {
    /// Tells the others how this node is, and hears who is probably alive.
    pub gossip: Arc<Gossip>,
    /// Carries changes and their acknowledgements.
    pub peers: Peers,
}
