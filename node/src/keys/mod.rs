//! The master key's provider, its watch, and the duties that follow rotations.

mod duty;
mod metrics;
mod open;
mod watch;

pub(crate) use duty::Duty;
pub(crate) use metrics::Metrics;
pub(crate) use open::{create, open};
pub(crate) use watch::Watch;
