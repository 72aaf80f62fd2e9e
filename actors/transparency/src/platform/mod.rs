//! The platform log: a Merkle tree whose leaves are the heads of all logs of the store, as they grow. Whoever keeps one of its
//! checkpoints, a witness or a locked bucket, keeps every tenant to its history, and learns no tenant's name: a head names its log by
//! the random id alone.
//!
//! The sealers put each new head into a queue, in the transaction that signs it. The home of the platform's shard takes them out and
//! appends them, in a transaction that reads and replaces the row of how far the log is: never two checkpoints of one size. A store
//! that was restored begins a new platform log, whose first leaf is the last head of the one before.

mod cosigned;
mod grow;
mod read;
mod rows;

pub use cosigned::cosign;
pub use grow::{Grower, Growth, Options};
pub use read::{HeadProof, PlatformLog, Status};
pub(crate) use rows::announce;
