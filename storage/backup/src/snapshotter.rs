use crate::{Error, SnapshotInfo, Writer};

/// Copies the rows to the archive, a chunk at a time, while the store is in use.
pub struct Snapshotter {}

/// How a snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// The rows that one chunk takes, in bytes before compression.
    pub chunk_bytes: usize,
    /// The most bytes of rows a second; [`next_at`](SnapshotStep::Chunk) says when the next step is due.
    pub bytes_per_second: u64,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotStep {
    /// One chunk more is in the archive. Wait so long before the next step.
    Chunk {
        /// How long to wait, so that the rate is kept.
        pause: std::time::Duration,
        /// The rows copied by now.
        rows: u64,
        /// The bytes of rows copied by now.
        bytes: u64,
    },
    /// The snapshot is complete. It can be restored once the shipper has reached its [`from`](SnapshotInfo::from).
    Complete(SnapshotInfo),
}

impl Snapshotter {
    /// Continues a snapshot of this line that was cut off, or begins one.
    pub async fn resume(writer: Writer, options: SnapshotOptions) -> Result<Self, Error> {
        todo!()
    }

    /// Copies the next chunk, or completes the snapshot. Safe to cut off anywhere.
    pub async fn step(&mut self) -> Result<SnapshotStep, Error> {
        todo!()
    }
}
