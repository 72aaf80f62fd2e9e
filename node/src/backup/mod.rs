//! Backups of this node's store: the duty of the one node that takes them, drills, and restoring offline.

mod archive;
mod drill;
mod due;
mod duty;
mod error;
mod fdb;
mod lead;
mod live;
mod logs;
mod metrics;
mod restore;
mod rows;
mod watched;

pub(crate) use self::{
    archive::{Place, map_size, target},
    drill::{Drilled, drill},
    error::Error,
    fdb::{Destination, FdbLive, drill as drill_fdb, restore as restore_fdb},
    live::Backups,
    metrics::Metrics,
    restore::{Step, Wanted, restore},
    rows::{DrillRow, last_drill, order_snapshot},
    watched::{Seen, Taken, Watched},
};
use crate::services::Context;

/// Takes backups whenever this node owns the platform's shard, until `closing`.
pub(crate) fn start(context: &Context, closing: tokio_util::sync::CancellationToken) {
    duty::start(context, closing.clone());
    fdb::start(context, closing);
}
