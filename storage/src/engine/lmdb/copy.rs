use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use aesp_proto::{Clock, SystemClock, TenantId, Timestamp};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{
    Inner, LmdbEngine,
    apply::put,
    blocking,
    environment::{Environment, explain},
    journal::{Change, record, state},
};
use crate::{Error, Kind};

/// Rows that lie next to each other, as one version has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The version.
    pub version: u64,
    /// When it was read.
    pub time: Timestamp,
    /// The rows, as changes that set them: see [`decode_changes`](crate::decode_changes).
    pub changes: Vec<u8>,
    /// How many rows they are.
    pub rows: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// The tenants whose keys are among them.
    pub tenants: Vec<TenantId>,
    /// Where the next chunk begins; nothing if this was the last one.
    pub next: Option<Vec<u8>>,
}

/// What a whole store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// How many rows, by the code of their kind.
    pub rows_by_kind: BTreeMap<u16, u64>,
    /// All rows.
    pub rows: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// SHA-256 of all rows in order: `key length (4) | key | value length (4) | value`, lengths big-endian.
    pub digest: [u8; 32],
}

/// Which keys to keep of what is loaded.
pub type Keep = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// An empty store that is being filled from a backup. Until it is finished, nobody else can open it or write to it.
pub struct Restoring(Arc<Inner>);

/// What every key begins with: tenant (16) and kind (2).
const PREFIX_BYTES: usize = 18;

impl LmdbEngine {
    /// Copies about `most_bytes` of rows from the key `from` on, in a short read transaction.
    ///
    /// # Errors
    /// That of the store.
    pub async fn copy_chunk(&self, from: Vec<u8>, most_bytes: usize) -> Result<Chunk, Error> {
        blocking(&self.0, move |environment| copy_chunk(environment, &from, most_bytes)).await
    }

    /// Reads everything in one read transaction. For a store that nobody else writes to.
    ///
    /// # Errors
    /// That of the store.
    pub async fn inventory(&self) -> Result<Inventory, Error> {
        blocking(&self.0, inventory).await
    }

    /// Begins to fill the store from a backup. Returns nothing if it is not empty.
    ///
    /// # Errors
    /// That of the store.
    pub async fn begin_restore(&self) -> Result<Option<Restoring>, Error> {
        let empty = blocking(&self.0, |environment| {
            let mut txn = environment.env.write_txn().map_err(explain)?;
            let has_journal = state::journal(environment, &txn).map_err(explain)?.is_some();
            let has_rows = environment.rows.first(&txn).map_err(explain)?.is_some();
            if has_rows || has_journal || state::is_restoring(environment, &txn).map_err(explain)? {
                return Ok(false);
            }
            state::set_restoring(environment, &mut txn, true).map_err(explain)?;
            txn.commit().map_err(explain)?;
            Ok(true)
        });
        Ok(empty.await?.then(|| Restoring(Arc::clone(&self.0))))
    }
}

impl Restoring {
    /// Writes encoded changes, in their order, in one transaction. Of the values, only those of the keys to `keep`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if they don't decode, [`Error::Full`] if they don't fit.
    pub async fn load(&self, batch: Vec<Bytes>, keep: Keep) -> Result<(), Error> {
        blocking(&self.0, move |environment| {
            let mut txn = environment.env.write_txn().map_err(explain)?;
            for changes in &batch {
                for change in record::decode(changes)? {
                    if !matches!(change, Change::Set { key, .. } if !keep(key)) {
                        put(environment.rows, &mut txn, change).map_err(explain)?;
                    }
                }
            }
            txn.commit().map_err(explain)
        })
        .await
    }

    /// Makes the store usable. All its versions from now on are above `base`.
    ///
    /// # Errors
    /// That of the store.
    pub async fn finish(self, base: u64) -> Result<(), Error> {
        blocking(&self.0, move |environment| {
            let mut txn = environment.env.write_txn().map_err(explain)?;
            state::raise_base(environment, &mut txn, base).map_err(explain)?;
            state::set_restoring(environment, &mut txn, false).map_err(explain)?;
            txn.commit().map_err(explain)
        })
        .await
    }
}

fn copy_chunk(environment: &Environment, from: &[u8], most_bytes: usize) -> Result<Chunk, Error> {
    let txn = environment.env.read_txn().map_err(explain)?;
    let version = state::version_of(environment, &txn).map_err(explain)?;
    // Not before any commit that is in it, even if the clock was set back.
    let journal = state::journal(environment, &txn).map_err(explain)?;
    let last = journal.map(|journal| state::last_time(environment, &txn, &journal)).transpose();
    let time = SystemClock.now().max(last.map_err(explain)?.unwrap_or_default());
    let mut changes = record::Changes::with_capacity(most_bytes + most_bytes / 8);
    let (mut rows, mut bytes, mut tenants, mut next) = (0, 0, Vec::new(), None);
    let start = if from.is_empty() { Bound::Unbounded } else { Bound::Included(from) };
    for row in environment.rows.range(&txn, &(start, Bound::Unbounded)).map_err(explain)? {
        let (key, value) = row.map_err(explain)?;
        if rows > 0 && bytes >= most_bytes as u64 {
            next = Some(key.to_vec());
            break;
        }
        changes.push(Change::Set { key, value });
        rows += 1;
        bytes += (key.len() + value.len()) as u64;
        tenants.extend(keys_of(key));
    }
    Ok(Chunk { version, time, changes: changes.into_bytes(), rows, bytes, tenants, next })
}

/// Returns the tenant whose keys this row holds, if it does.
fn keys_of(key: &[u8]) -> Option<TenantId> {
    let (tenant, rest) = key.split_first_chunk::<16>()?;
    (rest == Kind::TENANT_KEYS.to_bytes()).then(|| TenantId::from_bytes(*tenant))
}

fn inventory(environment: &Environment) -> Result<Inventory, Error> {
    let txn = environment.env.read_txn().map_err(explain)?;
    let (mut out, mut hash) = (Inventory::default(), Sha256::new());
    for row in environment.rows.iter(&txn).map_err(explain)? {
        let (key, value) = row.map_err(explain)?;
        for part in [key, value] {
            hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(part);
            out.bytes += part.len() as u64;
        }
        out.rows += 1;
        let kind = key.get(PREFIX_BYTES - 2..PREFIX_BYTES).and_then(|kind| kind.try_into().ok());
        *out.rows_by_kind.entry(kind.map_or(0, u16::from_be_bytes)).or_default() += 1;
    }
    out.digest = hash.finalize().into();
    Ok(out)
}
