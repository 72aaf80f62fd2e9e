use std::{fmt, time::Duration};

/// Tells how long the machine runs, sleep included. Measures leases: it never steps, and a process or machine that was
/// suspended notices.
pub(crate) trait Steady: Send + Sync + fmt::Debug + 'static {
    /// Returns the time since some moment that never changes.
    fn now(&self) -> Duration;
}

/// The machine's `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BootTime;

impl Steady for BootTime {
    fn now(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_such_a_clock_and_it_grows() {
        let first = BootTime.now();
        assert!(first > Duration::ZERO);
        assert!(BootTime.now() >= first);
    }
}
