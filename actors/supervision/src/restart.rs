use std::time::Duration;

/// How often a child may crash before its supervisor gives up; declared as a constant beside the actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The most restarts within the window.
    pub intensity: u32,
    /// The length of the window.
    pub within: Duration,
}

/// The pause before the first restart of a window; it doubles with each further one.
pub(crate) const RESTART_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause before a restart.
pub(crate) const RESTART_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The first pause of a parked child; it doubles while what it needs stays away.
pub(crate) const PARK_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause of a parked child.
pub(crate) const PARK_PAUSE_MAX: Duration = Duration::from_secs(5);
