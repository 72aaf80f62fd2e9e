//! Which segments a question is about, by halving: segments are in the order of the log, and times nearly are.

use std::ops::Range;

use aesp_audit::{DISORDER, Position, Query};
use aesp_proto::{TenantId, Timestamp};
use aesp_storage::Transaction;

use crate::{Error, rows::SegmentRow, segment::header};

/// Returns the segments that may hold what the query asks for, of the `segments` first ones.
///
/// # Errors
/// [`Error::Segment`] if a row is gone or damaged, or the store's.
pub(crate) async fn in_time(
    tx: &Transaction,
    tenant: TenantId,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    segments: u64,
) -> Result<Range<u64>, Error> {
    let low = match start {
        None => 0,
        Some(start) => first(tx, tenant, 0..segments, |row| row.newest.plus(DISORDER) >= start).await?,
    };
    let high = match end {
        None => segments,
        Some(end) => first(tx, tenant, low..segments, |row| row.oldest >= end.plus(DISORDER)).await?,
    };
    Ok(low..high)
}

/// Returns the part of the segments that the rest of a query is about, which came as far as `after`.
///
/// # Errors
/// As [`in_time`].
pub(crate) async fn beyond(
    tx: &Transaction,
    query: &Query,
    after: Option<Position>,
    segments: Range<u64>,
) -> Result<Range<u64>, Error> {
    let Some(after) = after else { return Ok(segments) };
    Ok(if query.newest_first {
        // The one that begins before it is the last that has something.
        let end =
            first(tx, query.tenant, segments.clone(), |row| row.after.is_some_and(|place| place.0 >= after));
        segments.start..end.await?
    } else {
        first(tx, query.tenant, segments.clone(), |row| row.last.0 > after).await?..segments.end
    })
}

/// Returns the first of the segments for which `is_beyond` holds, as for all after it; the end if there is none.
pub(crate) async fn first(
    tx: &Transaction,
    tenant: TenantId,
    segments: Range<u64>,
    is_beyond: impl Fn(&SegmentRow) -> bool,
) -> Result<u64, Error> {
    let Range { start: mut low, end: mut high } = segments;
    while low < high {
        let middle = low + (high - low) / 2;
        if is_beyond(&header(tx, tenant, middle).await?) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}
