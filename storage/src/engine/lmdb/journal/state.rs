use aesp_proto::Timestamp;
use heed::{RoTxn, RwTxn};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::record;
use crate::engine::lmdb::environment::Environment;

/// What is known of the journal. A row of the environment, so that all processes agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalState {
    /// Tells this journal without a gap from every other, in whatever environment.
    pub id: [u8; 16],
    /// Every commit above this version is in it.
    pub began: u64,
    /// Everything up to this version was trimmed.
    pub trimmed: u64,
    /// The time of what was trimmed last; no later record is before it.
    pub trimmed_time: Timestamp,
    /// The most that it may take, in bytes.
    pub limit_bytes: u64,
    /// Where it ended, if it did.
    pub stopped: Option<JournalStop>,
}

/// Where and why the journal ended. Later commits are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStop {
    /// The last version that it holds completely.
    pub at: u64,
    /// Why.
    pub why: StopReason,
}

/// Why a journal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It reached its limit: the archive was away for too long.
    Limit,
    /// The store is full: the rows need the room. What was not shipped is gone.
    NoRoom,
    /// Somebody wanted it so.
    Asked,
}

const JOURNAL: &[u8] = b"journal";
const BASE: &[u8] = b"version-base";
const RESTORING: &[u8] = b"restoring";

/// Reads the state of the journal.
pub(in crate::engine::lmdb) fn journal(
    environment: &Environment,
    txn: &RoTxn<'_>,
) -> heed::Result<Option<JournalState>> {
    environment.meta.get(txn, JOURNAL)?.map(decoded::<JournalState>).transpose()
}

/// Writes the state of the journal.
pub(in crate::engine::lmdb) fn set_journal(
    environment: &Environment,
    txn: &mut RwTxn<'_>,
    state: &JournalState,
) -> heed::Result<()> {
    let row = serde_json::to_vec(state).map_err(|error| heed::Error::Encoding(error.into()))?;
    environment.meta.put(txn, JOURNAL, &row)
}

/// Returns the version that this transaction reads, or makes: its number in the environment, above the base that a restore
/// has set, so that versions never go back.
pub(in crate::engine::lmdb) fn version_of(environment: &Environment, txn: &RoTxn<'_>) -> heed::Result<u64> {
    Ok(base(environment, txn)?.saturating_add(txn.id() as u64))
}

fn base(environment: &Environment, txn: &RoTxn<'_>) -> heed::Result<u64> {
    let Some(row) = environment.meta.get(txn, BASE)? else { return Ok(0) };
    let row = row.try_into().map_err(|_| heed::Error::Decoding("the version base has not 8 bytes".into()))?;
    Ok(u64::from_be_bytes(row))
}

/// Makes every later version greater than `version`.
pub(in crate::engine::lmdb) fn raise_base(
    environment: &Environment,
    txn: &mut RwTxn<'_>,
    version: u64,
) -> heed::Result<()> {
    let raised = base(environment, txn)?.max(version);
    environment.meta.put(txn, BASE, &raised.to_be_bytes())
}

/// Tells whether a restore into this environment was begun and not finished.
pub(in crate::engine::lmdb) fn is_restoring(
    environment: &Environment,
    txn: &RoTxn<'_>,
) -> heed::Result<bool> {
    Ok(environment.meta.get(txn, RESTORING)?.is_some())
}

/// Says that a restore was begun, or has finished.
pub(in crate::engine::lmdb) fn set_restoring(
    environment: &Environment,
    txn: &mut RwTxn<'_>,
    restoring: bool,
) -> heed::Result<()> {
    if restoring {
        return environment.meta.put(txn, RESTORING, &[1]);
    }
    environment.meta.delete(txn, RESTORING).map(|_| ())
}

/// Returns the time that no later record may be before.
pub(in crate::engine::lmdb) fn last_time(
    environment: &Environment,
    txn: &RoTxn<'_>,
    state: &JournalState,
) -> heed::Result<Timestamp> {
    let last = environment.journal.last(txn)?.map(|(_, record)| record::time(record));
    let last = last.transpose().map_err(|error| heed::Error::Decoding(error.into()))?;
    Ok(last.unwrap_or(state.trimmed_time).max(state.trimmed_time))
}

fn decoded<T: DeserializeOwned>(row: &[u8]) -> heed::Result<T> {
    serde_json::from_slice(row).map_err(|error| heed::Error::Decoding(error.into()))
}
