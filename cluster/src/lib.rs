//! The cluster: which node owns which shard, proven by the store. Gossip is a hint, the store is the truth.

mod cluster;
mod context;
mod duties;
mod error;
mod fence;
pub mod gossip;
mod lease;
mod metrics;
mod notice;
mod ownership;
pub mod peer;
mod refusal;
mod state;
mod status;
mod steady;

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
