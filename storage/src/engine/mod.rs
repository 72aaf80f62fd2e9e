mod atomic;
mod fault;
mod fdb;
mod lmdb;
mod memory;
mod turbulence;
mod watches;

use std::any::Any;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

pub use self::{
    atomic::AtomicOp,
    fault::{FaultEngine, Faults, UnknownCommit},
    fdb::{FdbEngine, FdbOptions, FdbTls},
    lmdb::{
        Change, Chunk, Inventory, Journal, JournalPart, JournalRecord, JournalState, JournalStop, Keep,
        LmdbEngine, LmdbOptions, Restoring, StopReason, decode_changes, encode_changes,
    },
    memory::{MemoryEngine, MemoryOptions},
    turbulence::Turbulence,
};
use crate::{Error, Range};

/// Where a commit stands among all commits: 8 bytes of version and 2 bytes of place within it, big-endian, ever growing.
pub type Versionstamp = [u8; 10];

/// Resolves when the watched value may have changed.
pub type Watch = BoxFuture<'static, Result<(), Error>>;

/// Where the bytes are: snapshots to read from, and commits that hold only if what they read still stands.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Returns the state after some commit that is at least as late as every commit that has returned.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error>;

    /// Writes durably, if nothing that was observed has changed.
    ///
    /// # Errors
    /// [`Error::Conflict`] if something has changed, [`Error::CommitUnknown`] if it can't be told whether it was written.
    async fn commit(&self, commit: Commit) -> Result<Versionstamp, Error>;

    /// Watches a key from the moment of the call.
    fn watch(&self, key: &[u8]) -> Watch;
}

/// A state of the store that stands still. An engine that finds its own in a commit may know more of it than its version.
#[async_trait]
pub trait Snapshot: Any + Send + Sync {
    /// Returns the version, which grows with every commit.
    fn version(&self) -> u64;

    /// Reads one value.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Reads a range; `range.snapshot` means nothing here.
    async fn range(&self, range: &Range) -> Result<Vec<(Bytes, Bytes)>, Error>;
}

/// What a transaction saw and wants to write.
#[derive(Default)]
pub struct Commit {
    /// The snapshot that was read, if any was. The engine lets go of it when it needs it no more.
    pub snapshot: Option<Box<dyn Snapshot>>,
    /// What was read.
    pub observed: Vec<Observed>,
    /// What to write, in this order.
    pub mutations: Vec<Mutation>,
    /// May use the space that is kept back for revocations and deletions.
    pub use_reserve: bool,
}

/// Something that was read and must still be so at the commit.
#[derive(Clone, Debug)]
pub enum Observed {
    /// One key.
    Point {
        /// The key.
        key: Vec<u8>,
        /// Its value, if it had one.
        value: Option<Bytes>,
    },
    /// All keys between two.
    Range {
        /// The first key, inclusive.
        start: Vec<u8>,
        /// The end, exclusive.
        end: Vec<u8>,
        /// All rows there, in order.
        rows: Vec<(Bytes, Bytes)>,
    },
}

/// One change.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// Sets a value.
    Set {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key.
    Clear {
        /// The key.
        key: Vec<u8>,
    },
    /// Removes every key between two.
    ClearRange {
        /// The first key, inclusive.
        start: Vec<u8>,
        /// The end, exclusive.
        end: Vec<u8>,
    },
    /// Changes a value without reading it.
    Atomic {
        /// The key.
        key: Vec<u8>,
        /// What to do to its value.
        op: AtomicOp,
    },
    /// Sets `prefix | versionstamp | suffix`.
    StampedKey {
        /// What comes before the stamp.
        prefix: Vec<u8>,
        /// What comes after the stamp.
        suffix: Vec<u8>,
        /// The value.
        value: Bytes,
    },
    /// Sets `key` to `prefix | versionstamp | suffix`.
    StampedValue {
        /// The key.
        key: Vec<u8>,
        /// What comes before the stamp.
        prefix: Vec<u8>,
        /// What comes after the stamp.
        suffix: Vec<u8>,
    },
}

/// Returns `prefix | stamp | suffix`.
fn stamped(prefix: &[u8], stamp: &Versionstamp, suffix: &[u8]) -> Vec<u8> {
    [prefix, stamp, suffix].concat()
}

/// Returns the stamp of the transaction at `place` within version `version`.
fn versionstamp(version: u64, place: u16) -> Versionstamp {
    let mut out = [0; 10];
    out[..8].copy_from_slice(&version.to_be_bytes());
    out[8..].copy_from_slice(&place.to_be_bytes());
    out
}
