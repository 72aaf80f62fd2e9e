//! Tenants: their lifecycle, quotas and configuration, and the gate that every call, session and Runtime of a tenant passes.
//!
//! Durable changes are functions over a transaction, so that the caller commits them together with their audit events. The
//! gate spends the node's lease on the tenant's quotas with atomics; the tenant's home actor hands leases out.

mod actor;
mod change;
mod config;
mod config_row;
mod config_store;
mod config_watch;
mod error;
mod gate;
mod home;
mod key;
mod metrics;
mod quotas;
mod rate;
mod rows;
mod slot;
mod snapshot;
mod state;
mod tenants;
#[cfg(test)]
mod tests;

pub use change::{
    NewTenant, create, create_platform, delete, get, list, resolve, resume, suspend, update_quotas,
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
pub use tenants::{Tenants, Usage};
