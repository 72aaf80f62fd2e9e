use aesp_proto::{Timestamp, v1::AuditLeaf};
use aesp_storage::{Range, Transaction};
use bytes::Bytes;
use prost::Message;

use crate::{
    Error,
    rows::{self, Position},
};

/// Returns the key in `range` of about the first event at or after `at`, or the range's end: by halving, for times grow
/// along the log but for the little that several writers put them out of order.
pub(crate) async fn seek(tx: &Transaction, range: &Range, at: Timestamp) -> Result<Vec<u8>, Error> {
    let one = |reverse| range.clone().limit(1).reverse(reverse).snapshot(true);
    let first = tx.range_raw(one(false)).await?;
    let last = tx.range_raw(one(true)).await?;
    let (Some((first, _)), Some((last, _))) = (first.first(), last.first()) else {
        return Ok(range.end.clone());
    };
    let prefix = first.slice(..first.len().saturating_sub(rows::POSITION_BYTES));
    let key = |number: u128| [prefix.as_ref(), &number.to_be_bytes()].concat();
    // INVARIANT: every event before `low` is too old; none at or after `high` need be looked at.
    let (mut low, mut high) = (number(first)?, number(last)? + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let probe = Range::new(key(middle), key(high)).limit(1).snapshot(true);
        match tx.range_raw(probe).await?.first() {
            None => high = middle,
            Some((found, leaf)) => {
                let leaf = AuditLeaf::decode(leaf.as_ref()).map_err(|_| Error::Damaged("an event"))?;
                if Timestamp(leaf.timestamp_ms) < at {
                    low = number(found)? + 1;
                } else {
                    high = middle;
                }
            }
        }
    }
    Ok(key(low))
}

fn number(key: &Bytes) -> Result<u128, Error> {
    let position: Position = rows::position(key).ok_or(Error::Damaged("an event's key"))?;
    Ok(u128::from_be_bytes(position))
}
