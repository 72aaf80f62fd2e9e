//! Moving: the oldest commits that lie in the store are packed, then, once their bundle was read back from the object store, replaced by
//! its row in one transaction.

use aesp_merkle::sha256;
use aesp_proto::{TenantId, Timestamp, v1::AuditLeaf};
use aesp_storage::{Range, Transaction};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use prost::Message;

use super::{Bundle, bundle, read::end};
use crate::{
    Error,
    rows::{self, Commit, past_commit},
};

/// Commits of one bundle, at most.
const COMMITS: usize = 2_000;
/// Bytes of rows after which a bundle ends.
const BYTES: usize = 8 << 20;

/// A bundle that is to be written.
#[derive(Clone, Debug)]
pub struct Packed {
    /// What the store will know of it.
    pub bundle: Bundle,
    /// The bytes of its object.
    pub object: Bytes,
    /// The commit that the shelf ended with.
    before: Option<Commit>,
    last: Commit,
}

/// Packs the tenant's oldest commits that lie in the store, as long as all their events are older than `before`; nothing if there are
/// none.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn pack(
    tx: &Transaction,
    tenant: TenantId,
    before: Timestamp,
    now: Timestamp,
) -> Result<Option<Packed>, Error> {
    let shelved = end(tx, tenant).await?;
    let batches = Range::prefix(&rows::batches(tenant)).limit(COMMITS).snapshot(true);
    let batches = tx.range_raw(batches).await?;
    let mut start = rows::events(tenant);
    let (mut events, mut kept, mut bytes, mut last) = (Vec::new(), Vec::new(), 0, None);
    let (mut first_at, mut last_at) = (None::<Timestamp>, None::<Timestamp>);
    for batch in batches {
        let commit = rows::commit(&batch.0).ok_or(Error::Damaged("a batch has a bad key"))?;
        let stop = past_commit(rows::events(tenant), &commit);
        // With what lies between: it is no writer's, and stays where it is found.
        let leaves = tx.range_raw(Range::new(start, stop.as_slice()).snapshot(true)).await?;
        let mut times = Vec::with_capacity(leaves.len());
        for (_, leaf) in &leaves {
            let leaf = AuditLeaf::decode(leaf.as_ref()).map_err(|_| Error::Damaged("an event"))?;
            times.push(Timestamp(leaf.timestamp_ms));
        }
        if times.iter().any(|time| *time >= before) {
            break;
        }
        for time in times {
            first_at = Some(first_at.map_or(time, |first| first.min(time)));
            last_at = Some(last_at.map_or(time, |last| last.max(time)));
        }
        bytes += leaves.iter().map(|(key, leaf)| key.len() + leaf.len()).sum::<usize>() + batch.1.len();
        events.extend(leaves);
        kept.push(batch);
        last = Some(commit);
        start = stop;
        if bytes >= BYTES {
            break;
        }
    }
    let Some(last) = last else { return Ok(None) };
    let count = events.len() as u64;
    // Events come before batches in the order of their keys.
    events.extend(kept);
    let (object, body_bytes) = bundle::write(&events)?;
    let digest = HEXLOWER.encode(&sha256(&[&object]));
    let bundle = Bundle {
        object: format!("{tenant}/{}-{}.bundle", HEXLOWER.encode(&last), &digest[..16]),
        digest,
        object_bytes: object.len() as u64,
        body_bytes,
        events: count,
        first_at: first_at.unwrap_or_default(),
        last_at: last_at.unwrap_or_default(),
        moved_at: now,
    };
    Ok(Some(Packed { bundle, object, before: shelved, last }))
}

/// Takes the packed rows out of the store, whose bundle must lie on the object store by now; tells whether nobody else was faster.
///
/// # Errors
/// The store's.
pub async fn settle(tx: &Transaction, tenant: TenantId, packed: &Packed) -> Result<bool, Error> {
    if end(tx, tenant).await? != packed.before {
        return Ok(false);
    }
    tx.put(tenant, &packed.last, &packed.bundle).await?;
    for prefix in [rows::events(tenant), rows::batches(tenant)] {
        tx.clear_range_raw(&prefix, &past_commit(prefix.clone(), &packed.last))?;
    }
    Ok(true)
}
