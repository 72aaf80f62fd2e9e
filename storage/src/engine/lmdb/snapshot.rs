use std::{
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use heed::{MdbError, RoTxn, WithoutTls};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    environment::{Environment, Rows, explain},
    journal::state,
};
use crate::{Error, Range, engine::Snapshot};

/// A read transaction of LMDB. Reads happen in the calling task.
pub(super) struct LmdbSnapshot {
    txn: Mutex<RoTxn<'static, WithoutTls>>,
    rows: Rows,
    version: u64,
    _permit: OwnedSemaphorePermit,
}

impl LmdbSnapshot {
    pub(super) fn open(environment: &Environment, permit: OwnedSemaphorePermit) -> Result<Self, Error> {
        let begin = || environment.env.clone().static_read_txn();
        let txn = match begin() {
            Err(heed::Error::Mdb(MdbError::ReadersFull)) => {
                environment.env.clear_stale_readers().map_err(explain)?;
                begin()
            }
            other => other,
        };
        let txn = txn.map_err(explain)?;
        let version = state::version_of(environment, &txn).map_err(explain)?;
        Ok(Self { txn: Mutex::new(txn), rows: environment.rows, version, _permit: permit })
    }

    fn txn(&self) -> MutexGuard<'_, RoTxn<'static, WithoutTls>> {
        self.txn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Snapshot for LmdbSnapshot {
    fn version(&self) -> u64 {
        self.version
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let txn = self.txn();
        let value = self.rows.get(&txn, key).map_err(explain)?;
        Ok(value.map(Bytes::copy_from_slice))
    }

    async fn range(&self, range: &Range) -> Result<Vec<(Bytes, Bytes)>, Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let txn = self.txn();
        let bounds = bounds(&range.start, &range.end);
        let copied = |row: heed::Result<(&[u8], &[u8])>| {
            row.map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
        };
        let rows: heed::Result<Vec<_>> = if range.reverse {
            self.rows.rev_range(&txn, &bounds).map_err(explain)?.take(range.limit).map(copied).collect()
        } else {
            self.rows.range(&txn, &bounds).map_err(explain)?.take(range.limit).map(copied).collect()
        };
        rows.map_err(explain)
    }
}

/// LMDB knows no empty keys, not even to start from.
pub(super) fn bounds<'a>(start: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let start = if start.is_empty() { Bound::Unbounded } else { Bound::Included(start) };
    (start, Bound::Excluded(end))
}
