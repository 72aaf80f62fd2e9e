use aesp_proto::Timestamp;

use crate::{SnapshotId, Version};

/// What a verification found to be in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its rows.
    pub rows: u64,
    /// The segments after it.
    pub segments: u64,
    /// The commits in them.
    pub commits: u64,
    /// The first version that can be restored.
    pub from: Version,
    /// The last version that can be restored.
    pub to: Version,
    /// The time of that version.
    pub to_time: Timestamp,
    /// The bytes that were read.
    pub bytes: u64,
}
