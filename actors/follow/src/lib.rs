//! What is built behind the audit logs, at each tenant's home: the node that owns the tenant's shard.
//!
//! A [`Follower`] builds something out of a tenant's log in steps of its own; it keeps in the store how far it has come, so that
//! another node goes on after a crash. [`Following`] has each follower look wherever there is news: it reads the feed of commits
//! (`aesp_audit::feed`), and looks once at every tenant of a shard that this node took over. Who looks where is decided by
//! `agenda`, without I/O. A step runs under the shard's fence: two homes never write both.

mod agenda;
mod error;
mod follower;
mod following;
mod metrics;
mod shards;

pub use error::Error;
pub use follower::{Advance, Follower};
pub use following::{Following, Options};
pub use metrics::Metrics;
