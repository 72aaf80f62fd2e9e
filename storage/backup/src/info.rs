use aesp_proto::{TenantId, Timestamp};
use serde::Serialize;

use crate::{ClusterId, Line, SnapshotId, Version};

/// A complete snapshot of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub id: SnapshotId,
    /// The first version that can be restored from it: that of its last chunk.
    pub from: Version,
    /// The time of that version.
    pub from_time: Timestamp,
    /// When it was begun.
    pub began: Timestamp,
    /// How many chunks it has.
    pub chunks: u64,
    /// How many rows it has.
    pub rows: u64,
    /// The bytes of its chunks, as they lie in the archive.
    pub bytes: u64,
    /// The tenants whose keys stood in it. A restore reads their values while the key provider can unwrap those keys.
    pub tenants: Vec<TenantId>,
    /// What unwraps them, and the backup keys.
    pub key_provider: String,
    /// Whether the line reaches [`from`](Self::from), so that it can be restored.
    pub restorable: bool,
}

/// A line of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineInfo {
    /// Its number.
    pub line: Line,
    /// The version after which its first segment begins.
    pub from: Version,
    /// The last version that it holds.
    pub to: Version,
    /// The time up to which it holds every commit.
    pub to_time: Timestamp,
    /// How many segments it has.
    pub segments: u64,
    /// Their bytes, as they lie in the archive.
    pub bytes: u64,
    /// What is wrong with the segments after [`to`](Self::to), if there are any: they are lost.
    pub broken: Option<String>,
}

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArchiveInfo {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The form of its objects.
    pub format: u16,
    /// What unwraps the backup keys.
    pub key_provider: String,
    /// The lines, oldest first.
    pub lines: Vec<LineInfo>,
    /// The complete snapshots, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
}
