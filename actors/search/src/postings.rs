//! Which events of which segments have the terms that are looked for.

use std::ops::Range;

use aesp_proto::TenantId;
use aesp_storage::{Error as StoreError, Scan, Transaction, encode};
use futures::future::try_join_all;

use crate::{
    Error,
    bucket::{Term, look_up},
    ordinals::Ordinals,
    rows::{Packed, TermsKey, TermsRow},
    segment::sound,
};

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 64;

/// What was found of each segment, and how many rows that took.
pub(crate) struct Candidates {
    /// By the segment, ascending; without those that have none.
    pub(crate) events: Vec<(u64, Ordinals)>,
    pub(crate) rows: usize,
}

/// Returns the events of these segments that have one term of each list.
///
/// # Errors
/// [`Error::Segment`] if a row is gone or damaged, or the store's.
pub(crate) async fn candidates(
    tx: &Transaction,
    tenant: TenantId,
    segments: Range<u64>,
    wanted: &[Vec<Term>],
) -> Result<Candidates, Error> {
    let mut out = Candidates { events: segments.map(|number| (number, Ordinals::ALL)).collect(), rows: 0 };
    for terms in wanted {
        let mut found = vec![Ordinals::NONE; out.events.len()];
        let mut terms = terms.clone();
        terms.sort_unstable();
        for terms in terms.chunk_by(|a, b| a.bucket() == b.bucket()) {
            let numbers: Vec<u64> = out.events.iter().map(|(number, _)| *number).collect();
            let rows = read(tx, tenant, terms[0].bucket(), &numbers).await?;
            out.rows += rows.len();
            for ((row, number), found) in rows.iter().zip(numbers).zip(&mut found) {
                look_up(row, terms, found).map_err(|_| Error::Segment(number))?;
            }
        }
        for ((_, events), found) in out.events.iter_mut().zip(&found) {
            events.keep(found);
        }
        out.events.retain(|(_, events)| !events.is_empty());
    }
    Ok(out)
}

/// Reads one row of each segment: all that lie between if most of them are wanted.
async fn read(
    tx: &Transaction,
    tenant: TenantId,
    bucket: u8,
    numbers: &[u64],
) -> Result<Vec<Vec<u8>>, Error> {
    let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else { return Ok(Vec::new()) };
    let span = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
    if span / 2 > numbers.len() {
        return one_by_one(tx, tenant, bucket, numbers).await;
    }
    let after = first.checked_sub(1).map(|segment| encode(&TermsKey { bucket, segment }));
    let scan = Scan { prefix: vec![bucket], after, limit: span, reverse: false };
    match tx.scan::<TermsRow>(tenant, scan).await {
        Ok(rows) => {
            let mut rows = rows.into_iter().peekable();
            let mut out = Vec::with_capacity(numbers.len());
            for &number in numbers {
                while rows.next_if(|(key, _)| key.segment < number).is_some() {}
                let row = rows.next_if(|(key, _)| key.segment == number);
                let (_, TermsRow(Packed(row))) = row.ok_or(Error::Segment(number))?;
                out.push(row);
            }
            Ok(out)
        }
        // Which one it is.
        Err(StoreError::Damaged { .. }) => one_by_one(tx, tenant, bucket, numbers).await,
        Err(error) => Err(error.into()),
    }
}

async fn one_by_one(
    tx: &Transaction,
    tenant: TenantId,
    bucket: u8,
    numbers: &[u64],
) -> Result<Vec<Vec<u8>>, Error> {
    let mut out = Vec::with_capacity(numbers.len());
    for numbers in numbers.chunks(ROWS_AT_ONCE) {
        let one = async |&segment: &u64| {
            let row = tx.get::<TermsRow>(tenant, &TermsKey { bucket, segment }).await;
            sound(row, segment).map(|TermsRow(Packed(row))| row)
        };
        out.extend(try_join_all(numbers.iter().map(one)).await?);
    }
    Ok(out)
}
