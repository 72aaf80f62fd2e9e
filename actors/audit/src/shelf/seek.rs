use aesp_proto::{TenantId, Timestamp, v1::AuditLeaf};
use aesp_storage::{Range, Transaction};
use prost::Message;

use super::read::{bundles, open};
use crate::{Error, rows, seek};

/// Returns the key of about the first event of the tenant at or after `at`, or the end of all its events, wherever it lies.
///
/// # Errors
/// As [`range`](super::range).
pub(crate) async fn seek(tx: &Transaction, tenant: TenantId, at: Timestamp) -> Result<Vec<u8>, Error> {
    let prefix = rows::events(tenant);
    let all = Range::prefix(&prefix);
    let shelved = bundles(tx, tenant).await?;
    // Those before it have nothing but what is too old.
    let Some((_, bundle)) = shelved.into_iter().find(|(_, bundle)| bundle.last_at >= at) else {
        return seek::seek(tx, &all, at).await;
    };
    let opened = open(tx, &bundle).await?;
    let events = opened.range(&all);
    let mut times = Vec::with_capacity(events.len());
    for (_, leaf) in events {
        let leaf = AuditLeaf::decode(leaf.as_ref()).map_err(|_| Error::Damaged("an event"))?;
        times.push(Timestamp(leaf.timestamp_ms));
    }
    // Times are a little out of order: a place that is too early leaves nothing out.
    let first = events.get(times.partition_point(|time| *time < at)).or(events.last());
    first.map(|(key, _)| key.to_vec()).ok_or(Error::Damaged("a bundle without events"))
}
