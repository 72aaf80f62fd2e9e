//! The feed of commits: whose logs grew, in the order of the commits. What is built behind the logs reads it instead of looking
//! at every tenant.
//!
//! Each commit of the writers adds a row to the platform's tenant:
//! `log epoch (4) | versionstamp (10) | part (2)` → `milliseconds since 1970 (8) | tenant (16) …`, big-endian, tenants sorted; a
//! commit of more tenants than fit in a row has several parts. Old rows are cleared ([`trim`]); the row without a key of its own
//! says up to where.

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Error as StoreError, Range, Transaction};
use bytes::Bytes;

use crate::{Error, rows};

/// Tenants in one row.
const ROW_TENANTS: usize = 4_096;
/// Rows that one [`trim`] clears.
const TRIM_ROWS: usize = 5_000;
const CURSOR_BYTES: usize = 16;
const TENANT_BYTES: usize = 16;
const TIME_BYTES: usize = 8;
const PREFIX_BYTES: usize = 18;

/// How far somebody has read the feed. The default is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor([u8; CURSOR_BYTES]);

/// A tenant whose log grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Whose.
    pub tenant: TenantId,
    /// The time of the events, as their writer tells it.
    pub at: Timestamp,
}

/// What came after a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// In the order of the commits; a tenant may be there several times.
    News {
        /// Whose logs grew.
        news: Vec<News>,
        /// For the next look.
        next: Cursor,
        /// Whether there was more than was asked for.
        more: bool,
    },
    /// Rows after the cursor are cleared: take [`end`], then look at every tenant.
    Missed,
}

/// Returns where the feed ends now.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn end(tx: &Transaction) -> Result<Cursor, Error> {
    let last = Range::prefix(&rows::commits()).limit(1).reverse(true).snapshot(true);
    match tx.range_raw(last).await?.first() {
        // The row without a key of its own.
        Some((key, value)) if key.len() == PREFIX_BYTES => cursor(value),
        Some((key, _)) => cursor(&key[PREFIX_BYTES..]),
        None => Ok(Cursor::default()),
    }
}

/// Returns whose logs grew after the cursor, from at most `limit` commits.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn since(tx: &Transaction, after: Cursor, limit: usize) -> Result<Since, Error> {
    if after < trimmed(tx).await? {
        return Ok(Since::Missed);
    }
    let prefix = rows::commits();
    let mut range = Range::prefix(&prefix).limit(limit).snapshot(true);
    range.start = [prefix.as_slice(), &after.0, &[0]].concat();
    let found = tx.range_raw(range).await?;
    let (mut news, mut next) = (Vec::new(), after);
    for (key, value) in &found {
        next = cursor(&key[PREFIX_BYTES..])?;
        let (at, tenants) = read(value)?;
        news.extend(tenants.map(|tenant| News { tenant, at }));
    }
    Ok(Since::News { news, next, more: found.len() == limit })
}

/// Clears rows from before `before`, some at a time; tells whether there are more.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn trim(tx: &Transaction, before: Timestamp) -> Result<bool, Error> {
    // Without a conflict with the writers; two that clear at once conflict at the row that says up to where.
    let after = trimmed(tx).await?;
    let prefix = rows::commits();
    let mut range = Range::prefix(&prefix).limit(TRIM_ROWS).snapshot(true);
    range.start = [prefix.as_slice(), &after.0, &[0]].concat();
    let found = tx.range_raw(range).await?;
    let mut last = None;
    for (key, value) in &found {
        if read(value)?.0 >= before {
            break;
        }
        last = Some(key);
    }
    let Some(last) = last else { return Ok(false) };
    tx.set_raw(&prefix, &last[PREFIX_BYTES..])?;
    tx.clear_range_raw(&[prefix.as_slice(), &[0]].concat(), &[last.as_ref(), &[0]].concat())?;
    Ok(found.len() == TRIM_ROWS && found.last().is_some_and(|(key, _)| key == last))
}

/// Writes whose logs this transaction makes longer.
pub(crate) fn announce(
    tx: &Transaction,
    log_epoch: u32,
    at: Timestamp,
    tenants: impl Iterator<Item = TenantId>,
) -> Result<(), StoreError> {
    let mut tenants: Vec<TenantId> = tenants.collect();
    tenants.sort_unstable();
    let prefix = rows::before_stamp(rows::commits(), log_epoch);
    for (part, tenants) in (0_u16..).zip(tenants.chunks(ROW_TENANTS)) {
        let mut value = at.0.to_be_bytes().to_vec();
        tenants.iter().for_each(|tenant| value.extend_from_slice(tenant.as_bytes()));
        tx.set_versionstamped_key(&prefix, &part.to_be_bytes(), &value)?;
    }
    Ok(())
}

/// Returns up to where rows are cleared.
async fn trimmed(tx: &Transaction) -> Result<Cursor, Error> {
    tx.get_raw(&rows::commits()).await?.map_or(Ok(Cursor::default()), |value| cursor(&value))
}

fn cursor(bytes: &[u8]) -> Result<Cursor, Error> {
    bytes.try_into().map(Cursor).map_err(|_| Error::Damaged("the feed of commits has a bad key"))
}

fn read(value: &Bytes) -> Result<(Timestamp, impl Iterator<Item = TenantId> + '_), Error> {
    const DAMAGED: Error = Error::Damaged("a row of the feed of commits");
    let (at, tenants) = value.split_first_chunk::<TIME_BYTES>().ok_or(DAMAGED)?;
    let (tenants, rest) = tenants.as_chunks::<TENANT_BYTES>();
    if !rest.is_empty() {
        return Err(DAMAGED);
    }
    let tenants = tenants.iter().map(|tenant| TenantId::from_bytes(*tenant));
    Ok((Timestamp(i64::from_be_bytes(*at)), tenants))
}
