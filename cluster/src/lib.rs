//! The cluster: which node owns which shard, proven by the store. Gossip is a hint, the store is the truth.

mod error;
mod fence;
mod ownership;

pub use error::Error;
pub use fence::Fence;
pub use ownership::{Held, Ownership, Shard};
