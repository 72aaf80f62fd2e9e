//! The signed checkpoints that are kept of each tenant's log, for exports and for what a restored log says of the one before.
//!
//! `tenant (16) | LOG_CHECKPOINT (2) | log epoch (4) | size (8)` → `milliseconds since 1970 (8) | note`, big-endian.

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Error as StoreError, Kind, Range, Transaction, row_key};
use bytes::Bytes;

use crate::Error;

const PREFIX_BYTES: usize = 18;
const TIME_BYTES: usize = 8;

/// Which checkpoint: the log epoch, then how many leaves. Orders as they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head {
    /// The log epoch; each has a tree of its own.
    pub log_epoch: u32,
    /// Leaves of its tree.
    pub size: u64,
}

/// A checkpoint as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub head: Head,
    /// When it was signed.
    pub at: Timestamp,
    /// The signed note (C2SP tlog-checkpoint).
    pub note: String,
}

impl Head {
    fn key(self, tenant: TenantId) -> Vec<u8> {
        row_key(
            tenant,
            Kind::LOG_CHECKPOINT,
            &[&self.log_epoch.to_be_bytes()[..], &self.size.to_be_bytes()].concat(),
        )
    }
}

/// Keeps a checkpoint.
///
/// # Errors
/// The store's.
pub fn keep(tx: &Transaction, tenant: TenantId, kept: &Kept) -> Result<(), StoreError> {
    tx.set_raw(&kept.head.key(tenant), &[&kept.at.0.to_be_bytes(), kept.note.as_bytes()].concat())
}

/// Keeps a checkpoint no longer.
///
/// # Errors
/// The store's.
pub fn drop(tx: &Transaction, tenant: TenantId, head: Head) -> Result<(), StoreError> {
    tx.clear_raw(&head.key(tenant))
}

/// Returns the checkpoints after `after`, or from the first on, in order.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn after(
    tx: &Transaction,
    tenant: TenantId,
    after: Option<Head>,
    limit: usize,
) -> Result<Vec<Kept>, Error> {
    let mut range = Range::prefix(&row_key(tenant, Kind::LOG_CHECKPOINT, &[])).limit(limit).snapshot(true);
    if let Some(after) = after {
        range.start = [after.key(tenant).as_slice(), &[0]].concat();
    }
    tx.range_raw(range).await?.iter().map(read).collect()
}

/// Returns the last checkpoint of all.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn last(tx: &Transaction, tenant: TenantId) -> Result<Option<Kept>, Error> {
    let prefix = row_key(tenant, Kind::LOG_CHECKPOINT, &[]);
    let rows = tx.range_raw(Range::prefix(&prefix).limit(1).reverse(true).snapshot(true)).await?;
    rows.first().map(read).transpose()
}

fn read((key, value): &(Bytes, Bytes)) -> Result<Kept, Error> {
    const DAMAGED: Error = Error::Damaged("a checkpoint");
    let (epoch, size) = key[PREFIX_BYTES..].split_first_chunk::<4>().ok_or(DAMAGED)?;
    let size = size.try_into().map(u64::from_be_bytes).map_err(|_| DAMAGED)?;
    let (at, note) = value.split_first_chunk::<TIME_BYTES>().ok_or(DAMAGED)?;
    Ok(Kept {
        head: Head { log_epoch: u32::from_be_bytes(*epoch), size },
        at: Timestamp(i64::from_be_bytes(*at)),
        note: str::from_utf8(note).map_err(|_| DAMAGED)?.to_owned(),
    })
}
