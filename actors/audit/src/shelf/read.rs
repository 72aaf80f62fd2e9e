use aesp_proto::TenantId;
use aesp_storage::{Error as StoreError, Range, Scan, Transaction};
use bytes::Bytes;
use futures::future::join;

use super::{Bundle, Shelf, bundle::Opened};
use crate::{
    Error,
    rows::{COMMIT_BYTES, Commit, past_commit},
};

/// Rows of bundles that are read at once.
const PAGE: usize = 64;
/// Bytes before the place in a key of the log.
const PREFIX_BYTES: usize = 18;

type Row = (Bytes, Bytes);

/// Bundles with the commits that they end with, in the order of the log.
pub type Bundles = Vec<([u8; COMMIT_BYTES], Bundle)>;

/// Returns all bundles of a tenant.
///
/// # Errors
/// The store's.
pub async fn bundles(tx: &Transaction, tenant: TenantId) -> Result<Bundles, StoreError> {
    let (mut out, mut after) = (Bundles::new(), None);
    loop {
        let scan = Scan { after: after.take(), limit: 1_000, ..Scan::default() };
        let page = tx.scan::<Bundle>(tenant, scan).await?;
        let full = page.len() == 1_000;
        after = page.last().map(|(last, _)| last.to_vec());
        out.extend(page);
        if !full {
            return Ok(out);
        }
    }
}

/// Returns the last commit on the shelf.
pub(super) async fn end(tx: &Transaction, tenant: TenantId) -> Result<Option<Commit>, StoreError> {
    let last = tx.scan::<Bundle>(tenant, Scan { limit: 1, reverse: true, ..Scan::default() }).await?;
    Ok(last.first().map(|(last, _)| *last))
}

/// Reads rows of the tenant's events, or of its batches, wherever they lie.
///
/// # Errors
/// The store's; [`Error::Shelf`] or [`Error::ShelfDamaged`] if what is on the shelf can't be had.
pub(crate) async fn range(tx: &Transaction, tenant: TenantId, range: Range) -> Result<Vec<Row>, Error> {
    let (live, end) = join(tx.range_raw(range.clone()), end(tx, tenant)).await;
    let (live, end) = (live?, end?);
    let Some(old) = end.and_then(|end| on_shelf(&range, &end)) else { return Ok(live) };
    if range.reverse {
        let mut rows = live;
        let left = range.limit - rows.len();
        if left == 0 {
            return Ok(rows);
        }
        rows.extend(backwards(tx, tenant, old.limit(left)).await?);
        return Ok(rows);
    }
    let mut rows = forwards(tx, tenant, old).await?;
    rows.extend(live);
    rows.truncate(range.limit);
    Ok(rows)
}

/// Reads one row, wherever it lies.
///
/// # Errors
/// As [`range`].
pub(crate) async fn get(tx: &Transaction, tenant: TenantId, key: &[u8]) -> Result<Option<Bytes>, Error> {
    if let Some(value) = tx.get_raw(key).await? {
        return Ok(Some(value));
    }
    let Some((_, bundle)) = from(tx, tenant, &place(key), 1).await?.pop() else { return Ok(None) };
    Ok(open(tx, &bundle).await?.get(key))
}

/// Returns what of a range of the log comes up to this commit.
fn on_shelf(range: &Range, end: &Commit) -> Option<Range> {
    let past = past_commit(range.start.get(..PREFIX_BYTES)?.to_vec(), end);
    let mut old = range.clone();
    old.end = old.end.min(past);
    (old.start < old.end && old.limit > 0).then_some(old)
}

async fn forwards(tx: &Transaction, tenant: TenantId, range: Range) -> Result<Vec<Row>, Error> {
    let (mut rows, mut next) = (Vec::new(), place(&range.start));
    loop {
        let page = from(tx, tenant, &next, PAGE).await?;
        let full = page.len() == PAGE;
        for (last, bundle) in page {
            let opened = open(tx, &bundle).await?;
            let left = range.limit - rows.len();
            let found = opened.range(&range);
            rows.extend(found.iter().take(left).cloned());
            let past = past_commit(range.start[..PREFIX_BYTES].to_vec(), &last);
            if rows.len() >= range.limit || past >= range.end {
                return Ok(rows);
            }
            next = after(&last);
        }
        if !full {
            return Ok(rows);
        }
    }
}

async fn backwards(tx: &Transaction, tenant: TenantId, range: Range) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    // The bundle in which the range ends comes first: it ends at or behind the range's last place.
    let mut at = from(tx, tenant, &place(&range.end), 1).await?.pop();
    let mut before = at.as_ref().map(|(last, _)| *last);
    if at.is_none() {
        at = newest_before(tx, tenant, None).await?;
        before = at.as_ref().map(|(last, _)| *last);
    }
    while let Some((_, bundle)) = at {
        let opened = open(tx, &bundle).await?;
        let left = range.limit - rows.len();
        rows.extend(opened.range(&range).iter().rev().take(left).cloned());
        if rows.len() >= range.limit {
            break;
        }
        at = newest_before(tx, tenant, before).await?;
        before = at.as_ref().map(|(last, _)| *last);
        // One that ends before the range begins has nothing more, nor has any before it.
        if before.is_some_and(|last| past_commit(range.start[..PREFIX_BYTES].to_vec(), &last) <= range.start)
        {
            break;
        }
    }
    Ok(rows)
}

async fn newest_before(
    tx: &Transaction,
    tenant: TenantId,
    before: Option<Commit>,
) -> Result<Option<(Commit, Bundle)>, StoreError> {
    let scan = Scan { after: before.map(|last| last.to_vec()), limit: 1, reverse: true, ..Scan::default() };
    Ok(tx.scan::<Bundle>(tenant, scan).await?.pop())
}

/// Returns bundles from the one on that may hold the place.
async fn from(tx: &Transaction, tenant: TenantId, at: &Commit, limit: usize) -> Result<Bundles, StoreError> {
    let scan = Scan { after: before(at).map(|commit| commit.to_vec()), limit, ..Scan::default() };
    tx.scan::<Bundle>(tenant, scan).await
}

pub(super) async fn open(tx: &Transaction, bundle: &Bundle) -> Result<std::sync::Arc<Opened>, Error> {
    match tx.attached::<Shelf>() {
        Some(shelf) => shelf.open(bundle).await,
        None => Err(Error::Shelf {
            object: bundle.object.clone(),
            what: "can't be read: this node's configuration has no [audit.archive]".into(),
        }),
    }
}

/// Returns the commit in which a key of the log lies, filled up where the key is shorter.
fn place(key: &[u8]) -> Commit {
    let mut out = [0; COMMIT_BYTES];
    let rest = key.get(PREFIX_BYTES..).unwrap_or_default();
    let length = rest.len().min(COMMIT_BYTES);
    out[..length].copy_from_slice(&rest[..length]);
    out
}

fn before(commit: &Commit) -> Option<Commit> {
    let mut out = *commit;
    for byte in out.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            return Some(out);
        }
    }
    None
}

fn after(commit: &Commit) -> Commit {
    let mut out = *commit;
    for byte in out.iter_mut().rev() {
        let (more, carried) = byte.overflowing_add(1);
        *byte = more;
        if !carried {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_over_their_bytes() {
        let mut commit = [0; COMMIT_BYTES];
        assert_eq!(before(&commit), None);
        commit[COMMIT_BYTES - 2] = 1;
        let mut less = [0; COMMIT_BYTES];
        less[COMMIT_BYTES - 1] = u8::MAX;
        assert_eq!(before(&commit), Some(less));
        assert_eq!(after(&less), commit);
    }
}
