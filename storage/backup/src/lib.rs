//! Backups of an LMDB store: its journal shipped to an archive on an object store, fuzzy snapshots of its rows beside it, and
//! the restore of every version between. Everything in the archive is compressed and sealed under a backup key, which the
//! key provider wraps; each object is bound to its cluster, its line and its name.

mod archive;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod info;
pub mod logical;
mod point;
mod progress;
pub mod rebirth;
mod restore;
mod retention;
mod shipper;
mod snapshotter;
mod target;
mod verify;
mod writer;

pub use archive::{Archive, ArchiveKey};
pub use error::Error;
pub use files::Files;
pub use info::{ArchiveInfo, LineInfo, SnapshotInfo};
pub use point::{ClusterId, Line, Point, Scope, SnapshotId, Version};
pub use progress::Progress;
pub use restore::Restored;
pub use retention::{Removed, Retention};
pub use shipper::{Shipped, Shipper};
pub use snapshotter::{SnapshotOptions, SnapshotStep, Snapshotter};
pub use target::{Credentials, Target};
pub use verify::Report;
pub use writer::Writer;
