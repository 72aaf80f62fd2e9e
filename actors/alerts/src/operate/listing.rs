//! Alerts and deliveries in pages.

use std::collections::BTreeMap;

use aesp_proto::{AlertId, DeliveryId, TenantId, Timestamp};
use aesp_storage::{Row, Scan, Transaction, encode};

use super::list_silences;
use crate::{
    Alert, Delivery, Error,
    alert::labels,
    group::Phase,
    rows::{GroupRow, Head},
    silence::silenced_until,
    store,
};

/// Rows that one page of a list looks through.
const LOOKED_AT: usize = 5_000;

/// Which alerts are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Those that last.
    Firing,
    /// Those that are over.
    Resolved,
    /// All of them.
    Any,
}

/// An alert in a list.
#[derive(Clone, Debug)]
pub struct ListedAlert {
    /// The alert.
    pub alert: Alert,
    /// Until when nobody is told of it.
    pub silenced_until: Option<Timestamp>,
}

/// A condition that holds, and not yet long enough for an alert.
#[derive(Clone, Debug)]
pub struct PendingAlert {
    /// Of which rule.
    pub rule: String,
    /// What tells its group from others.
    pub labels: BTreeMap<String, String>,
    /// Since when.
    pub since: Timestamp,
}

/// Returns a tenant's alerts, the newest first, and where to go on; nothing when there are no more.
///
/// # Errors
/// The store's.
pub async fn list_alerts(
    tx: &Transaction,
    tenant: TenantId,
    status: Status,
    before: Option<AlertId>,
    limit: usize,
    now: Timestamp,
) -> Result<(Vec<ListedAlert>, Option<AlertId>), Error> {
    let silences = list_silences(tx, tenant, Some(now)).await?;
    let listed = |alert: Alert| {
        let silenced_until = silenced_until(&silences, &alert.labels, now).filter(|_| alert.is_firing());
        ListedAlert { alert, silenced_until }
    };
    if status == Status::Firing {
        let rows = tx.scan_all::<GroupRow>(tenant, Vec::new()).await?;
        let mut ids: Vec<AlertId> = rows
            .iter()
            .filter_map(|row| match row.group.phase {
                Phase::Firing { alert, .. } => Some(alert),
                _ => None,
            })
            .filter(|id| before.is_none_or(|before| *id < before))
            .collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let next = ids.get(limit.saturating_sub(1)).copied().filter(|_| ids.len() > limit);
        let mut out = Vec::new();
        for id in ids.into_iter().take(limit) {
            let alert = tx.get::<Alert>(tenant, &id).await?;
            out.extend(alert.filter(Alert::is_firing).map(&listed));
        }
        return Ok((out, next));
    }
    let wanted = |alert: &Alert| status == Status::Any || !alert.is_firing();
    let (found, next) = newest(tx, tenant, wanted, before, limit).await?;
    Ok((found.into_iter().map(listed).collect(), next))
}

/// Returns the conditions that hold, and not yet long enough for an alert.
///
/// # Errors
/// The store's, or as [`rules`](super::rules).
pub async fn list_pending(tx: &Transaction, tenant: TenantId) -> Result<Vec<PendingAlert>, Error> {
    let head = tx.get::<Head>(tenant, &()).await?.unwrap_or_default();
    let rules = store::rules(tx, tenant, head.version).await?;
    let mut out = Vec::new();
    for row in tx.scan_all::<GroupRow>(tenant, Vec::new()).await? {
        let rule = rules.all().find(|rule| rule.name == row.rule && rule.fingerprint == row.fingerprint);
        if let (Some(rule), Phase::Pending { since }) = (rule, row.group.phase) {
            out.push(PendingAlert { rule: row.rule, labels: labels(tenant, rule, &row.group), since });
        }
    }
    Ok(out)
}

/// Returns the record of deliveries, the newest first, and where to go on; nothing when there are no more.
///
/// # Errors
/// The store's.
pub async fn deliveries(
    tx: &Transaction,
    tenant: TenantId,
    wanted: impl Fn(&Delivery) -> bool,
    before: Option<DeliveryId>,
    limit: usize,
) -> Result<(Vec<Delivery>, Option<DeliveryId>), Error> {
    newest(tx, tenant, wanted, before, limit).await
}

/// Returns a page of the rows that are wanted, the newest first, and where to go on; nothing when there are no more. A page that would need
/// more than [`LOOKED_AT`] rows is shorter.
async fn newest<R>(
    tx: &Transaction,
    tenant: TenantId,
    wanted: impl Fn(&R) -> bool,
    before: Option<R::Key>,
    limit: usize,
) -> Result<(Vec<R>, Option<R::Key>), Error>
where
    R: Row,
    R::Key: Copy,
{
    let (mut out, mut after, mut looked_at) = (Vec::new(), before, 0);
    loop {
        let scan = Scan { after: after.map(|key| encode(&key)), limit, reverse: true, ..Scan::default() };
        let page = tx.scan::<R>(tenant, scan).await?;
        let full = page.len() == limit;
        looked_at += page.len();
        for (key, row) in page {
            after = Some(key);
            if wanted(&row) {
                out.push(row);
            }
            if out.len() == limit {
                return Ok((out, after));
            }
        }
        if !full {
            return Ok((out, None));
        }
        if looked_at >= LOOKED_AT {
            return Ok((out, after));
        }
    }
}
