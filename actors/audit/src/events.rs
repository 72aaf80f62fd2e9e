//! The events of a tenant's log as they are stored, for what is built behind it.

use aesp_proto::TenantId;
use aesp_storage::{Range, Transaction};
use bytes::Bytes;

use crate::{
    Error,
    rows::{self, Commit, POSITION_BYTES},
};

/// Events that are read at once.
const READ: usize = 512;

/// Where an event stands in its tenant's log: log epoch (4), versionstamp (10), index (2), big-endian. Orders as the log does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub [u8; POSITION_BYTES]);

impl Position {
    /// Returns the position of the first event of a commit.
    pub(crate) fn from_commit(commit: Commit) -> Self {
        let mut position = [0; POSITION_BYTES];
        position[..commit.len()].copy_from_slice(&commit);
        Self(position)
    }

    /// Returns the log epoch.
    #[must_use]
    pub fn log_epoch(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
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
    let start = after.map_or_else(|| prefix.clone(), |after| [prefix.as_slice(), &after.0, &[0]].concat());
    read(tx, tenant, start, events, bytes).await
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
    read(tx, tenant, [rows::events(tenant).as_slice(), &from.0].concat(), events, usize::MAX).await
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
        let rows = tx.range_raw(range.clone().limit(limit)).await?;
        let last = rows.len() < limit;
        for (key, leaf) in rows {
            let position = rows::position(&key).ok_or(Error::Damaged("an event's key"))?;
            read += leaf.len();
            range.start = [key.as_ref(), &[0]].concat();
            out.push((Position(position), leaf));
        }
        if last {
            break;
        }
    }
    Ok(out)
}
