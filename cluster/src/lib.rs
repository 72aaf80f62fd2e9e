//! The cluster: which node owns which shard, proven by the store. Gossip is a hint, the store is the truth.

mod barrier;
mod clocks;
mod cluster;
mod context;
mod duties;
mod error;
mod eyes;
mod fence;
pub mod gossip;
mod holdings;
mod join;
mod lease;
mod look;
mod metrics;
mod moves;
mod notice;
mod observer;
mod operate;
mod ownership;
pub mod peer;
mod placement;
mod refusal;
mod renew;
mod rights;
mod rows;
#[cfg(test)]
mod simulation;
mod state;
mod status;
mod steady;
mod steer;
mod wire;

pub use cluster::Cluster;
pub use context::{Context, Links, Options};
pub use duties::{Changed, Duties};
pub use error::{BarrierError, Error, JoinError, RemoveError};
pub use fence::Fence;
pub use lease::Lease;
pub use metrics::Metrics;
pub use notice::{Notice, ObserveNotices};
pub use ownership::{Held, Ownership, Shard};
pub use refusal::{ObserveRefusals, Refusal, Surface};
pub use state::{Load, MemberState};
pub use status::NodeStatus;
