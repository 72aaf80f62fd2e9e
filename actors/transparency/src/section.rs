//! Which part of a log shows the events of a time range, and what leads from there to the signed roots.

use aesp_audit::{
    DISORDER, Position, Section, TimeRange, checkpoints, checkpoints::Head, events, place_before,
};
use aesp_merkle::proof::Needs;
use aesp_proto::{EventId, TenantId, v1::AuditLeaf};
use aesp_storage::Transaction;
use bytes::Bytes;
use prost::Message;

use crate::{
    Error, Log,
    grow::BUNDLE,
    log,
    rows::{self, State},
};

/// Bytes of a place that say which commit it is in.
const COMMIT_BYTES: usize = 14;

impl Log {
    /// Returns the part of the log that holds the events of a time range, with an event before and a sealed one behind as witnesses where
    /// there are such. It begins with a commit; where it can, it ends with a checkpoint.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Damaged`] or the store's.
    pub async fn section(&self, range: TimeRange) -> Result<Section, Error> {
        let tenant = self.tenant();
        self.store().run(move |tx| Box::pin(section(tx, tenant, range))).await
    }
}

async fn section(tx: &Transaction, tenant: TenantId, range: TimeRange) -> Result<Section, Error> {
    let (_, newest) = State::newest(tx, tenant).await?.ok_or(Error::Empty)?;
    let before = place_before(tx, tenant, range.start).await?;
    let witness = match before {
        Some(before) => events::last_until(tx, tenant, before).await?,
        None => None,
    };
    // What is not sealed has no place in a tree yet.
    let last = newest.last()?;
    let begin = witness.map_or([0; 16], |witness| first_of_commit(witness.min(last)));
    let first = events::from(tx, tenant, begin, 1).await?.pop();
    let (first, leaf) = first.ok_or_else(|| Error::Damaged("the sealed events are missing".into()))?;
    let (log_epoch, size) = leaf_of(tx, tenant, &leaf)
        .await?
        .ok_or_else(|| Error::Damaged("an event before the last that was sealed is in no tree".into()))?;
    let needs = Needs::frontier(size);
    let state = tx.get::<State>(tenant, &log_epoch).await?;
    let state = state.ok_or_else(|| Error::Damaged("the state of the event's log is missing".into()))?;
    let tiles = log::sealed(tx, tenant, log_epoch, state).await?.tiles(tx, &[&needs]).await?;
    let before =
        needs.hashes(&tiles).ok_or_else(|| Error::Damaged("a tile before the range is cut".into()))?;
    Ok(Section {
        range,
        first: Some(first),
        head: Head { log_epoch, size },
        before,
        end: end(tx, tenant, range).await?,
    })
}

/// Returns the first checkpoint that covers a later event than the range has, with the place of its last leaf.
async fn end(
    tx: &Transaction,
    tenant: TenantId,
    range: TimeRange,
) -> Result<Option<(checkpoints::Kept, Position)>, Error> {
    let Some(end) = range.end else { return Ok(None) };
    // As far behind as events may be out of order; place_before looks as far ahead.
    let before = place_before(tx, tenant, end.plus(DISORDER).plus(DISORDER)).await?;
    let Some((_, later)) = events::after(tx, tenant, before, 1, usize::MAX).await?.pop() else {
        return Ok(None);
    };
    let Some((log_epoch, leaf)) = leaf_of(tx, tenant, &later).await? else { return Ok(None) };
    let after = Some(Head { log_epoch, size: leaf });
    let Some(kept) = checkpoints::after(tx, tenant, after, 1).await?.pop() else { return Ok(None) };
    let last = place_of(tx, tenant, kept.head.log_epoch, kept.head.size.saturating_sub(1)).await?;
    Ok(Some((kept, last)))
}

fn first_of_commit(mut place: Position) -> Position {
    place[COMMIT_BYTES..].fill(0);
    place
}

/// Returns in which log, and as which leaf, an event is sealed.
async fn leaf_of(tx: &Transaction, tenant: TenantId, leaf: &Bytes) -> Result<Option<(u32, u64)>, Error> {
    let id = AuditLeaf::decode(leaf.as_ref()).ok().and_then(|leaf| EventId::from_slice(&leaf.event_id).ok());
    let id = id.ok_or_else(|| Error::Damaged("an event names none".into()))?;
    rows::leaf(tx, tenant, id).await
}

async fn place_of(tx: &Transaction, tenant: TenantId, log_epoch: u32, leaf: u64) -> Result<Position, Error> {
    let first = rows::bundle(tx, tenant, log_epoch, leaf / BUNDLE).await?;
    let count = usize::try_from(leaf % BUNDLE).expect("below 256") + 1;
    let mut found = events::from(tx, tenant, first, count).await?;
    let last = found.pop().filter(|_| found.len() + 1 == count);
    last.map(|(place, _)| place).ok_or_else(|| Error::Damaged(format!("the event of leaf {leaf} is missing")))
}
