//! The cluster: which node owns which shard, proven by the store. Gossip is a hint, the store is the truth.
//!
//! A node writes a row when it joins and renews it as long as it lives; that is its lease, which it counts from before each
//! renewal and by a clock that runs on while it is stopped. Others who see the row unchanged for a lease and a quarter remove it,
//! and only then take the node's shards: whoever has no row is dead, for ever. Every owner of a shard has an epoch of its own,
//! which each write under it checks in the same transaction.
//!
//! Changed rights are a log in the store. Each node applies what is in it and says in its row how far it has come; a
//! [`barrier`](Cluster::barrier) returns when everybody who has a row has come past the end that it saw. A node that can't apply
//! a change does not renew its lease, and ends.
//!
//! Decisions are pure (`placement`, `observer`, `clocks`, `holdings`), commits are in `moves` and `renew`, and `simulation` runs
//! whole clusters against all of it.

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
mod locality;
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
mod skew;
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
pub use locality::{Distance, Locality};
pub use metrics::Metrics;
pub use notice::{Notice, ObserveNotices};
pub use ownership::{Held, Ownership, Shard};
pub use refusal::{ObserveRefusals, Refusal, Surface};
pub use rows::stored_id;
pub use state::{Load, MemberState};
pub use status::NodeStatus;
