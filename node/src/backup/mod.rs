//! Backups of this node's store: the duty of the one node that takes them, drills, and restoring offline.

mod archive;
mod drill;
mod due;
mod duty;
mod error;
mod live;
mod logs;
mod metrics;
mod restore;
mod rows;

pub(crate) use self::{
    archive::{Place, map_size},
    drill::{Drilled, drill},
    duty::start,
    error::Error,
    live::{Backups, Live, Seen},
    metrics::Metrics,
    restore::{Step, Wanted, restore},
    rows::{DrillRow, last_drill, order_snapshot},
};
