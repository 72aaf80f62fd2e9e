use std::{ops::RangeInclusive, time::Duration};

use aesp_proto::Incarnation;

use super::version;

/// A node as its peers see it: one incarnation, the name that its certificate must show, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which life of the node.
    pub incarnation: Incarnation,
    /// The `<name>` of `spiffe://<trust domain>/node/<name>`.
    pub name: String,
    /// Host and port of its peer listener.
    pub endpoint: String,
    /// What it wrote into its row when it joined; empty for a release that speaks protocol 1 only.
    pub birth: String,
}

/// How a node takes part in peer links.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's incarnation.
    pub own: Incarnation,
    /// The cluster's id.
    pub cluster: String,
    /// The SPIFFE trust domain of the cluster's nodes.
    pub trust_domain: String,
    /// Bounds of one link.
    pub limits: Limits,
    /// Times of one link.
    pub timing: Timing,
    /// Protocol numbers that this node speaks.
    pub protocols: RangeInclusive<u32>,
    /// What this node wrote into its row when it joined, see [`Cluster::birth`](crate::Cluster::birth). While it is empty, links
    /// of protocol 2 and above are refused.
    pub birth: String,
}

impl Options {
    /// Creates options with the usual limits and times.
    #[must_use]
    pub fn new(own: Incarnation, cluster: impl Into<String>, trust_domain: impl Into<String>) -> Self {
        Self {
            own,
            cluster: cluster.into(),
            trust_domain: trust_domain.into(),
            limits: Limits::default(),
            timing: Timing::default(),
            protocols: version::spoken(),
            birth: String::new(),
        }
    }
}

/// What bounds the memory of one link. Answers that wait for a slow caller take at most
/// `reserve_bytes + outstanding × small_window_bytes`, or one message for each caller where that is more; what waits to be
/// sent takes at most `queue_bytes` and a frame of some ten bytes for each running request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that one side may have running at the other.
    pub outstanding: usize,
    /// Requests and answers that wait to be sent, in bytes.
    pub queue_bytes: usize,
    /// One payload.
    pub message_bytes: usize,
    /// How much of an answer may be on its way, in bytes.
    pub window_bytes: u32,
    /// The same, for requests beyond what the reserve holds.
    pub small_window_bytes: u32,
    /// How much all windows together may be before new ones are small.
    pub reserve_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outstanding: 16_384,
            queue_bytes: 32 << 20,
            message_bytes: 8 << 20,
            window_bytes: 64 << 10,
            small_window_bytes: 4 << 10,
            reserve_bytes: 128 << 20,
        }
    }
}

/// The times of a link.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two pings.
    pub heartbeat: Duration,
    /// After how long without a frame a link is down.
    pub silence: Duration,
    /// For connecting, the TLS handshake and the hellos together.
    pub handshake: Duration,
    /// How long an acceptor waits for the row of a node that it has not heard of.
    pub introduction: Duration,
    /// The first pause after a failed attempt; doubled each time.
    pub backoff: Duration,
    /// The longest pause.
    pub longest_backoff: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(500),
            silence: Duration::from_secs(2),
            handshake: Duration::from_secs(5),
            introduction: Duration::from_secs(2),
            backoff: Duration::from_millis(50),
            longest_backoff: Duration::from_secs(2),
        }
    }
}
