use std::time::Duration;

use crate::{queue::Bounds, state::Limits};

/// Bounds of what connections hold. The default is right but for tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a Runtime may take to announce itself.
    pub announce_timeout: Duration,
    /// How often a Runtime must be heard; after three intervals of silence it counts as lost.
    pub heartbeat: Duration,
    /// How long the node's lease is at most: Runtimes are told to expect a word so much sooner that silence means something.
    pub lease: Duration,
    /// The most connections to this node.
    pub max_connections: usize,
    /// Calls that may wait for the credits of one connection.
    pub queue_calls: u32,
    /// Of these, the most of one tenant.
    pub tenant_queue_calls: u32,
    /// Bytes of arguments that may wait at one connection.
    pub queue_bytes: usize,
    /// The largest result or chunk.
    pub max_answer_bytes: usize,
    /// When a refused call may be tried again.
    pub retry_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            announce_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(5),
            lease: Duration::from_secs(2),
            max_connections: 10_000,
            queue_calls: 16_384,
            tenant_queue_calls: 8_192,
            queue_bytes: 64 << 20,
            max_answer_bytes: 1 << 20,
            retry_after: Duration::from_millis(200),
        }
    }
}

/// So many points of violations cut a connection off: a hundred frames of garbage at once.
const PENALTY: u32 = 10_000;
/// So many points are forgiven each second.
const PENALTY_LEAK: u32 = 500;

impl Options {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            announce: self.announce_timeout,
            heartbeat: self.heartbeat,
            lease: self.lease,
            queue: Bounds {
                total: self.queue_calls as usize,
                per_tenant: self.tenant_queue_calls as usize,
                bytes: self.queue_bytes,
            },
            answer_bytes: self.max_answer_bytes,
            penalty: PENALTY,
            penalty_leak: PENALTY_LEAK,
            retry_after: self.retry_after,
        }
    }
}
