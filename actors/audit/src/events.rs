//! The events of a tenant's log as they are stored, for what is built behind it.

use aesp_proto::TenantId;
use aesp_storage::{Range, Transaction};
use bytes::Bytes;

use crate::{
    Error,
    rows::{self, Position},
    shelf,
};

/// Events that are read at once.
const READ: usize = 512;

/// Returns the log epoch of a place in the log.
#[must_use]
pub fn log_epoch(position: &Position) -> u32 {
    let [a, b, c, d, ..] = *position;
    u32::from_be_bytes([a, b, c, d])
}

/// Returns the events after `after`, or from the first on, with the bytes of their leaves: at most `events`, and no more after
/// `bytes` are read. Without a conflict: events are only ever appended, and never before others.
///
/// # Errors
/// The store's, or [`Error::Damaged`] if a key is not one of the log's.
pub async fn after(
    tx: &Transaction,
    tenant: TenantId,
    after: Option<Position>,
    events: usize,
    bytes: usize,
) -> Result<Vec<(Position, Bytes)>, Error> {
    let prefix = rows::events(tenant);
    let start = after.map_or_else(|| prefix.clone(), |after| [prefix.as_slice(), &after, &[0]].concat());
    read(tx, tenant, start, events, bytes).await
}

/// Returns the place of the last event that is not behind this one.
///
/// # Errors
/// The store's, or [`Error::Damaged`] if a key is not one of the log's.
pub async fn last_until(
    tx: &Transaction,
    tenant: TenantId,
    until: Position,
) -> Result<Option<Position>, Error> {
    let mut range = Range::prefix(&rows::events(tenant)).limit(1).reverse(true).snapshot(true);
    range.end = [rows::events(tenant).as_slice(), &until, &[0]].concat();
    let last = tx.range_raw(range).await?;
    let place = |(key, _): &(Bytes, Bytes)| rows::position(key).ok_or(Error::Damaged("an event's key"));
    last.first().map(place).transpose()
}

/// As [`after`], beginning with the event at `from` itself.
///
/// # Errors
/// As [`after`].
pub async fn from(
    tx: &Transaction,
    tenant: TenantId,
    from: Position,
    events: usize,
) -> Result<Vec<(Position, Bytes)>, Error> {
    read(tx, tenant, [rows::events(tenant).as_slice(), &from].concat(), events, usize::MAX).await
}

async fn read(
    tx: &Transaction,
    tenant: TenantId,
    start: Vec<u8>,
    events: usize,
    bytes: usize,
) -> Result<Vec<(Position, Bytes)>, Error> {
    let mut range = Range::prefix(&rows::events(tenant)).snapshot(true);
    range.start = start;
    let (mut out, mut read) = (Vec::new(), 0);
    while out.len() < events && read < bytes {
        let limit = READ.min(events - out.len());
        let rows = shelf::range(tx, tenant, range.clone().limit(limit)).await?;
        let last = rows.len() < limit;
        for (key, leaf) in rows {
            let position = rows::position(&key).ok_or(Error::Damaged("an event's key"))?;
            read += leaf.len();
            range.start = [key.as_ref(), &[0]].concat();
            out.push((position, leaf));
        }
        if last {
            break;
        }
    }
    Ok(out)
}
