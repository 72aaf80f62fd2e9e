//! The store of the AESP Host: strictly serializable transactions over ordered byte keys, on an embedded engine (LMDB), on
//! FoundationDB or in memory; typed rows sealed under their tenant's data key; tenant keys wrapped by a master key.

mod audit_keys;
mod backup_key;
mod blind;
mod engine;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod key;
mod key_codec;
mod key_file;
mod keyring;
mod keys;
mod keys_row;
mod limits;
mod overlay;
mod position;
mod provider;
mod range;
mod raw;
mod rebirth;
mod request;
mod reseal;
mod rewrap;
mod rights;
mod row;
mod runner;
mod seal;
mod store;
mod tenant_keys;
mod transaction;

pub use audit_keys::{
    AuditDestruction, AuditKey, AuditKeyName, AuditPartition, AuditPartitionKey, AuditPeriod, AuditSubject,
    AuditSubjectKey, Destroyed, Opened,
};
pub use backup_key::BackupKey;
pub use blind::Blind;
pub use engine::{
    AtomicOp, Change, Chunk, Commit, Engine, FaultEngine, Faults, FdbEngine, FdbOptions, FdbTls, Inventory,
    Journal, JournalPart, JournalRecord, JournalState, JournalStop, Keep, LmdbEngine, LmdbOptions,
    MemoryEngine, MemoryOptions, Mutation, Observed, Restoring, Snapshot, StopReason, Turbulence,
    UnknownCommit, Versionstamp, Watch, decode_changes, encode_changes,
};
pub use error::Error;
pub use key::{Kind, row_key};
pub use key_codec::{KeyError, KeyReader, KeyWriter, RowKey, encode};
pub use key_file::FileKeyProvider;
pub use keyring::KeyHealth;
pub use keys_row::wrap_for;
pub use limits::{MAX_KEY_BYTES, MAX_ROW_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, TRANSACTION_TIME};
pub use position::{SHARDS, ShardRow, cluster_changes_key, revision_key, shard_of};
pub use provider::{KeyProvider, KeyVersion};
pub use range::Range;
pub use reseal::DataKeyRotation;
pub use rewrap::MasterKeyRewrap;
pub use rights::{RightsPosition, RightsSince, rights_key};
pub use row::{Found, Row, Scan};
pub use runner::Borrowing;
pub use store::Store;
pub use tenant_keys::{DataKeyVersion, TenantKeys};
pub use transaction::Transaction;
