use std::time::Duration;

/// What to keep. The newest snapshot that can be restored is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Every point of so long is kept restorable.
    pub keep: Duration,
    /// At least so many snapshots are kept.
    pub least_snapshots: usize,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Snapshots, complete or given up.
    pub snapshots: u64,
    /// Segments.
    pub segments: u64,
    /// Objects.
    pub objects: u64,
    /// Objects that the object store still holds locked.
    pub locked: u64,
}
