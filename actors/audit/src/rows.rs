//! What the log stores. Typed: `AUDIT_WRITER` and `AUDIT_KEY`. Raw, because their bytes are what is hashed and because
//! their keys carry the commit's versionstamp:
//!
//! `tenant (16) | AUDIT_EVENT (2) | log epoch (4) | versionstamp (10) | index (2)` → the bytes of the leaf;
//! `tenant (16) | AUDIT_BATCH (2) | log epoch (4) | versionstamp (10)` → an `AuditBatchProof`;
//! `PLATFORM (16) | AUDIT_COMMIT (2) | log epoch (4) | versionstamp (10) | part (2)` → see `feed`.

use aesp_proto::{TenantId, Timestamp, WriterId};
use aesp_storage::{Kind, Row, row_key};
use serde::{Deserialize, Serialize};

use crate::key::KeyId;

/// Bytes of `log epoch | versionstamp`.
pub(crate) const COMMIT_BYTES: usize = 14;
/// Bytes of `log epoch | versionstamp | index`.
pub(crate) const POSITION_BYTES: usize = 16;
/// Bytes of what comes before them.
const PREFIX_BYTES: usize = 18;

/// Where an event stands in its tenant's log: log epoch, versionstamp, index. Orders as the log does.
pub type Position = [u8; POSITION_BYTES];
/// Where a commit stands in its tenant's log: log epoch, versionstamp.
pub(crate) type Commit = [u8; COMMIT_BYTES];

/// Returns what the keys of the tenant's events start with, without the log epoch.
pub(crate) fn events(tenant: TenantId) -> Vec<u8> {
    row_key(tenant, Kind::AUDIT_EVENT, &[])
}

/// Returns what the keys of the tenant's batches start with, without the log epoch.
pub(crate) fn batches(tenant: TenantId) -> Vec<u8> {
    row_key(tenant, Kind::AUDIT_BATCH, &[])
}

/// Returns what the keys of the feed of commits start with, without the log epoch.
pub(crate) fn commits() -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::AUDIT_COMMIT, &[])
}

/// Adds the log epoch, after which the versionstamp comes.
pub(crate) fn before_stamp(mut prefix: Vec<u8>, log_epoch: u32) -> Vec<u8> {
    prefix.extend_from_slice(&log_epoch.to_be_bytes());
    prefix
}

/// Returns the commit of a place as a number, which orders as they do.
pub(crate) fn commit_of(position: &Position) -> u128 {
    u128::from_be_bytes(*position) >> (8 * (POSITION_BYTES - COMMIT_BYTES))
}

/// Returns the commit of that number.
pub(crate) fn commit_at(number: u128) -> Commit {
    let bytes = number.to_be_bytes();
    let mut commit = [0; COMMIT_BYTES];
    commit.copy_from_slice(&bytes[POSITION_BYTES - COMMIT_BYTES..]);
    commit
}

/// Returns the first key after all of a commit's; `prefix` is that of events or batches.
pub(crate) fn past_commit(mut prefix: Vec<u8>, commit: &Commit) -> Vec<u8> {
    prefix.extend_from_slice(commit);
    prefix.extend_from_slice(&[u8::MAX; 3]);
    prefix
}

/// Reads the position from an event's key.
pub(crate) fn position(key: &[u8]) -> Option<Position> {
    key.get(PREFIX_BYTES..)?.try_into().ok()
}

/// Reads the commit from an event's or a batch's key.
pub(crate) fn commit(key: &[u8]) -> Option<Commit> {
    key.get(PREFIX_BYTES..)?.get(..COMMIT_BYTES)?.try_into().ok()
}

/// One incarnation of a writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriterRow {
    /// The key that it signs with.
    pub(crate) public_key: String,
    pub(crate) key_id: KeyId,
    pub(crate) started_at: Timestamp,
}

impl Row for WriterRow {
    const KIND: Kind = Kind::AUDIT_WRITER;
    type Key = WriterId;
}
