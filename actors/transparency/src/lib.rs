//! The transparency log of each tenant: an RFC 6962 Merkle tree over its events in commit order, with signed checkpoints.
//!
//! A [`Sealer`] builds it at the tenant's home, behind the log, and never signs two different checkpoints of one size: what it signs
//! follows from the row of the state that the same transaction reads and replaces. [`Log`] reads: checkpoints, tiles, bundles of
//! entries, proofs; it believes nothing that does not lead to the signed root. Nothing here is sealed under the tenant's keys, so that
//! the tree outlives them: it has hashes, positions and random ids only. docs/audit-format.md has the bytes.
//!
//! The [`platform`] log is another such tree, over the heads of all of them: what witnesses see.

mod error;
mod grow;
mod key;
mod log;
mod metrics;
pub mod platform;
mod rows;
mod sealed;
mod sealer;
mod section;

pub use error::Error;
pub use key::LogKeys;
pub use log::{Consistency, Entry, Inclusion, Log};
pub use metrics::Metrics;
pub use sealer::{Options, Sealer};
