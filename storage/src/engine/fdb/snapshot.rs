use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use foundationdb::{
    Database, FdbError, RangeOption, Transaction,
    options::{StreamingMode, TransactionOption},
};
use tokio::time::Instant;

use super::{failure, space::Space};
use crate::{Error, Range, TRANSACTION_TIME, engine::Snapshot};

/// A read version of the cluster, which stands still for about five seconds.
pub(super) struct FdbSnapshot {
    transaction: Transaction,
    version: u64,
    space: Arc<Space>,
    opened: Instant,
}

impl FdbSnapshot {
    pub(super) async fn open(database: &Database, space: Arc<Space>) -> Result<Self, Error> {
        let opened = Instant::now();
        let transaction = database.create_trx().map_err(failure::of_read)?;
        // What a transaction wrote itself is laid over the snapshot above the engines.
        transaction.set_option(TransactionOption::ReadYourWritesDisable).map_err(failure::of_read)?;
        let version = transaction.get_read_version().await.map_err(failure::of_read)?;
        let version = u64::try_from(version)
            .map_err(|_| Error::unavailable("FoundationDB gave a read version below zero"))?;
        Ok(Self { transaction, version, space, opened })
    }

    /// Returns the transaction that was read in, with as much time for the commit as a new one would have: what it has read
    /// without a conflict stays so.
    pub(super) fn into_transaction(self) -> Result<Transaction, FdbError> {
        let time = self.opened.elapsed() + TRANSACTION_TIME;
        let time = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        self.transaction.set_option(TransactionOption::Timeout(time))?;
        Ok(self.transaction)
    }
}

#[async_trait]
impl Snapshot for FdbSnapshot {
    fn version(&self) -> u64 {
        self.version
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.transaction.get(&self.space.key(key), true).await.map_err(failure::of_read)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    async fn range(&self, range: &Range) -> Result<Vec<(Bytes, Bytes)>, Error> {
        rows(&self.transaction, &self.space, range, true).await
    }
}

/// Reads a range, page by page; with a read conflict if it is no `snapshot`.
pub(super) async fn rows(
    transaction: &Transaction,
    space: &Space,
    range: &Range,
    snapshot: bool,
) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let mut out = Vec::new();
    if range.is_empty() {
        return Ok(out);
    }
    let mut option = RangeOption::from((space.key(&range.start), space.key(&range.end)));
    option.limit = (range.limit < usize::MAX).then_some(range.limit);
    option.reverse = range.reverse;
    option.mode = StreamingMode::WantAll;
    let mut next = Some(option);
    let mut page = 1;
    while let Some(option) = next {
        let found = transaction.get_range(&option, page, snapshot).await.map_err(failure::of_read)?;
        out.extend(found.iter().map(|row| (space.strip(row.key()), Bytes::copy_from_slice(row.value()))));
        next = option.next_range(&found);
        page += 1;
    }
    Ok(out)
}
