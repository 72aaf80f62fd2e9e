//! The cluster: which node owns which shard, proven by the store. Gossip is a hint, the store is the truth.

mod error;
mod fence;
pub mod gossip;
mod ownership;
pub mod peer;
mod refusal;
mod state;

pub use error::Error;
pub use fence::Fence;
pub use ownership::{Held, Ownership, Shard};
pub use refusal::{ObserveRefusals, Refusal, Surface};
pub use state::{Load, MemberState};
