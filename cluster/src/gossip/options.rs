use std::{net::SocketAddr, time::Duration};

use aesp_proto::Incarnation;

use super::{Announcement, Secrets};

/// How a node gossips.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's incarnation.
    pub incarnation: Incarnation,
    /// This node's name.
    pub name: String,
    /// The cluster's id; datagrams of another cluster are refused.
    pub cluster: String,
    /// Where to listen (UDP). Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others find this node, if not where it listens.
    pub advertise: Option<SocketAddr>,
    /// Hosts and ports of some other nodes; host names are looked up again every minute.
    pub seeds: Vec<String>,
    /// The cluster's secrets.
    pub secrets: Secrets,
    /// How often, and when a node counts as dead.
    pub timing: Timing,
}

/// The times of the gossip. With the default ones a crash is seen by all of five nodes in about 1.2 s.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two rounds.
    pub interval: Duration,
    /// How improbable the silence of a living node must be: 10 to the power of this.
    pub phi: f64,
    /// What is expected of a node that was not heard of before.
    pub initial_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { interval: Duration::from_millis(200), phi: 8.0, initial_interval: Duration::from_millis(500) }
    }
}

/// What is heard of another node. Never decides anything: it makes observers of the store look sooner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Which life of the node.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// Whether it was heard of as often as a living node is. One that is not stays in the list for about a minute.
    pub alive: bool,
    /// What it told last.
    pub announcement: Announcement,
}
