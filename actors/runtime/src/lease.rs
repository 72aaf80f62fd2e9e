use std::{sync::Arc, time::Duration};

/// Returns what is left of the node's lease, zero when it is lost. Asked for every frame to a Runtime, so it must be cheap.
pub type RemainingLease = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Returns the milliseconds as a frame carries them.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
