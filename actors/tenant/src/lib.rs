//! Tenants: their life cycle, quotas and configuration, and the limits that every call, session and Runtime of a tenant passes.
//!
//! Durable changes are functions over a transaction, so that the caller commits them together with their audit events.
//!
//! # Limits, over the whole cluster
//!
//! A tenant's **home** is on the node that owns the tenant's shard. It hands out credits: for sessions, calls in flight and
//! Runtimes (levels), and for calls that start (the rate). Each node is a **holder**: its `gate` uses what it holds with
//! atomics, and asks when it has nothing left. `home`, `holder` and what they are made of do no I/O; `exchange` carries their
//! messages, `model` runs them against a network that loses, doubles and reorders.
//!
//! **Invariant Q1**: what all nodes hold is never more than the quota, whatever is lost or late and whoever dies.
//!
//! * A holder *reports*: its levels, and who waits for what. Reports are numbered. A *grant* answers one report and says by how
//!   much the limits grow; the holder takes it only if the number is that of its last report, and then once. So a home that has
//!   read a report knows the most that its node holds: what the report says, and what it was answered with. Messages may be
//!   lost, doubled or late; whoever waits reports again.
//! * Limits grow by grants only. Their lowering needs no agreement: a holder lowers first and reports then.
//! * Before a home refuses, it *recalls* what the others hold and do not use. It says "at the limit" when all have answered, and
//!   "not known" when somebody did not: that is a retryable refusal which does not speak of the quota.
//! * A home lives under a *term*: the shard's epoch, and a number for each home that the owner begins. A new one asks with its
//!   term for reports; from then on the holder takes nothing from older ones.
//! * The most that each node may hold is durable before the node hears of it (`ceilings`, one row a tenant, written under the
//!   shard's fence). So a new home knows what a node may hold that it can't ask: one that lives counts with its ceiling until it
//!   reports; what the calls of a dead one hold stays reserved for as long as the longest of them may take (also part of the
//!   ceiling: a call that may take longer has to ask first); its Runtimes are gone with it.
//! * **Sessions** are durable, so credits are only for new ones: the home counts those in the store, adds what nodes say they have
//!   stored since, and counts anew before it refuses. Shards may move without a credit following them. What a dead node may have
//!   stored is in the first count that begins after others own its shards.
//! * **Starts** are tokens of one bucket at the home (the rate, with a burst of a second's worth), used within 256 ms or not at
//!   all. In any window no more calls start than rate × (window + 256 ms) + burst; a home that begins while others may hold
//!   something begins with an empty bucket.
//! * **Lowered quotas**: the change returns when every node has applied it, and applying drops all idle credits and every grant
//!   on its way. What runs beyond the new quota ends by itself; until it has, nothing begins.
//!
//! A node that is alone runs the same protocol with itself, without a message.

mod book;
mod bucket;
mod ceilings;
mod change;
mod config;
mod config_row;
mod config_store;
mod config_watch;
mod counts;
mod duty;
mod error;
mod exchange;
mod gate;
mod holder;
mod home;
mod key;
mod message;
mod meter;
mod metrics;
#[cfg(test)]
mod model;
mod quotas;
mod recall;
mod rows;
mod slot;
mod snapshot;
mod starts;
mod state;
mod stored;
mod tenant;
mod tenants;
#[cfg(test)]
mod tests;
mod usage;
mod wire;
mod wiring;

pub use change::{
    NewTenant, create, create_platform, delete, get, list, pack, resolve, resume, suspend, unpack,
    update_quotas,
};
pub use config::Config;
pub use config_store::{
    Value, get as config_get, history as config_history, list as config_list, rollback as config_rollback,
    set as config_set,
};
pub use config_watch::{Change, changes as config_changes};
pub use error::Error;
pub use key::{KEYS, Key, RuntimeMode};
pub use metrics::Metrics;
pub use quotas::Quotas;
pub use rows::{Status, TenantRow};
pub use slot::{CallSlot, RuntimeSlot, SessionSlot};
pub use snapshot::Snapshot;
pub use tenants::Tenants;
pub use usage::{NodeUsage, Usage};
pub use wiring::{CountSessions, Living, Peers, Wiring};
