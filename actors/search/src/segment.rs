//! A segment: made of events, written, read again.

use std::collections::BTreeMap;

use aesp_audit::{Opener, Position, Stored};
use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Error as StoreError, Row, Transaction};

use crate::{
    Error,
    bucket::{self, Term},
    cells::{Cells, Counter},
    places,
    rows::{CountsRow, Packed, Place, PlacesRow, SegmentRow, TermsKey, TermsRow},
    terms::Terms,
};

/// Events that are worked off before others get their turn on the thread.
const TURN_EVENTS: usize = 256;

/// Makes the segment of this number of these events, and writes it over whatever was there. Returns what it holds.
///
/// # Errors
/// The store's; [`StoreError::KeyDestroyed`] if the tenant has no keys.
pub(crate) async fn write(
    tx: &Transaction,
    tenant: TenantId,
    number: u64,
    after: Option<Position>,
    events: &[Stored],
) -> Result<SegmentRow, Error> {
    let keys = tx.tenant_keys(tenant).await?;
    let mut opener = Opener::load(tx, tenant).await?;
    opener.learn(tx, events.iter().map(|stored| &stored.leaf)).await?;
    let (mut terms, mut known, mut counter) =
        (BTreeMap::<Term, Vec<u16>>::new(), Terms::default(), Counter::default());
    for (ordinal, stored) in (0_u16..).zip(events) {
        let event = opener.event(&stored.leaf);
        counter.add(stored, &event);
        known.of(&keys, &stored.leaf, &event, |term| {
            let ordinals = terms.entry(term).or_default();
            if ordinals.last() != Some(&ordinal) {
                ordinals.push(ordinal);
            }
        });
        if usize::from(ordinal) % TURN_EVENTS == TURN_EVENTS - 1 {
            tokio::task::yield_now().await;
        }
    }
    for (bucket, row) in (0_u8..=u8::MAX).zip(bucket::pack(terms)) {
        tx.put(tenant, &TermsKey { bucket, segment: number }, &TermsRow(Packed(row))).await?;
    }
    let positions: Vec<Position> = events.iter().map(|stored| stored.position).collect();
    tx.put(tenant, &number, &PlacesRow(Packed(places::pack(&positions)))).await?;
    let (coarse, fine) = counter.finish();
    tx.put(tenant, &number, &CountsRow(Packed(fine))).await?;
    let times = || events.iter().map(|stored| Timestamp(stored.leaf.timestamp_ms));
    let segment = SegmentRow {
        after: after.map(Place),
        last: Place(positions.last().copied().unwrap_or_default()),
        events: u32::try_from(events.len()).expect("a segment has at most 4,096 events"),
        oldest: times().min().unwrap_or_default(),
        newest: times().max().unwrap_or_default(),
        counts: Packed(coarse),
    };
    tx.put(tenant, &number, &segment).await?;
    Ok(segment)
}

/// Reads what a segment holds.
///
/// # Errors
/// [`Error::Segment`] if the row is gone or damaged, or the store's.
pub(crate) async fn header(tx: &Transaction, tenant: TenantId, number: u64) -> Result<SegmentRow, Error> {
    row::<SegmentRow>(tx, tenant, number).await
}

/// Reads where the events of a segment stand.
///
/// # Errors
/// As [`header`].
pub(crate) async fn positions(
    tx: &Transaction,
    tenant: TenantId,
    number: u64,
    segment: &SegmentRow,
) -> Result<Vec<Position>, Error> {
    let PlacesRow(Packed(packed)) = row(tx, tenant, number).await?;
    places::unpack(&packed, segment.events as usize).map_err(|_| Error::Segment(number))
}

/// Reads how many events of a segment are of each sort, by principals and tools, too.
///
/// # Errors
/// As [`header`].
pub(crate) async fn fine_counts(tx: &Transaction, tenant: TenantId, number: u64) -> Result<Cells, Error> {
    let CountsRow(Packed(packed)) = row(tx, tenant, number).await?;
    Cells::unpack(&packed).map_err(|_| Error::Segment(number))
}

async fn row<R: Row<Key = u64>>(tx: &Transaction, tenant: TenantId, number: u64) -> Result<R, Error> {
    sound(tx.get::<R>(tenant, &number).await, number)
}

/// Takes a row that must be there.
///
/// # Errors
/// [`Error::Segment`] if it is gone or damaged, or the store's.
pub(crate) fn sound<R>(row: Result<Option<R>, StoreError>, number: u64) -> Result<R, Error> {
    match row {
        Ok(Some(row)) => Ok(row),
        Ok(None) => Err(Error::Segment(number)),
        Err(StoreError::Damaged { what, .. }) => {
            tracing::warn!(segment = number, what, "a row of an audit index is damaged");
            Err(Error::Segment(number))
        }
        Err(error) => Err(error.into()),
    }
}
