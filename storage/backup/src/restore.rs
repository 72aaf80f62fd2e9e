use std::collections::BTreeMap;

use aesp_proto::Timestamp;

use crate::{SnapshotId, Version};

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The last commit that is in it.
    pub version: Version,
    /// When that was committed.
    pub time: Timestamp,
    /// The last version in the whole archive: what was committed by anybody, ever, is not above it by more than was never shipped.
    pub archive_version: Version,
    /// Every version of the restored store is above this.
    pub version_base: Version,
    /// The snapshot that it was restored from.
    pub snapshot: SnapshotId,
    /// How many commits were replayed on it.
    pub commits: u64,
    /// How many rows there are now, by the code of their kind.
    pub rows_by_kind: BTreeMap<u16, u64>,
    /// All rows.
    pub rows: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// SHA-256 of all rows in order: `key length (4) | key | value length (4) | value`.
    pub digest: [u8; 32],
}
