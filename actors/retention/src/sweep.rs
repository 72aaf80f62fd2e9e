//! What follows the destruction of keys: the log is gone through once for the events that they sealed, which are counted, and the
//! index forgets them. In small steps that note how far they came, so that another home goes on.

use std::{collections::BTreeSet, ops::ControlFlow};

use aesp_audit::{Position, Span, read_span};
use aesp_proto::{TenantId, Timestamp, v1::AuditLeaf};
use aesp_search::Index;
use aesp_storage::{AuditDestruction, AuditKeyName, Error as StoreError, Kind, Row, Transaction};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Events behind the index that a step looks at.
const TAIL_EVENTS: usize = 2_000;
/// Keys that one pass looks for.
const PASS_KEYS: usize = 500;

/// How far a tenant's log was gone through. Lies with the platform, so that those that wait are found at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SweepRow {
    /// Keys that wait for the next pass.
    waiting: Vec<AuditKeyName>,
    /// The keys of this pass, each with how many events were found.
    pass: Vec<(AuditKeyName, u64)>,
    /// The next segment of the index.
    segment: u64,
    /// Where what is not in the index yet is read on; not before the index is through.
    tail: bool,
    /// The last event that was looked at.
    after: Option<Position>,
}

impl Row for SweepRow {
    const KIND: Kind = Kind::AUDIT_SWEEP;
    type Key = TenantId;
}

const PLATFORM: TenantId = TenantId::PLATFORM;

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more; so many events were found in this step.
    More(u64),
    /// There is nothing to look for.
    Done,
}

/// Asks for these keys to be looked for.
pub(crate) async fn ask(
    tx: &Transaction,
    tenant: TenantId,
    keys: &BTreeSet<AuditKeyName>,
) -> Result<(), StoreError> {
    let mut row = tx.get::<SweepRow>(PLATFORM, &tenant).await?.unwrap_or_default();
    row.waiting.extend(keys.iter().copied());
    tx.put(PLATFORM, &tenant, &row).await
}

/// Returns the tenants that are asked for.
pub(crate) async fn asked(tx: &Transaction) -> Result<Vec<TenantId>, StoreError> {
    let rows = tx.glance_all::<SweepRow>(PLATFORM).await?;
    Ok(rows.into_iter().map(|(tenant, _)| tenant).collect())
}

/// Goes one step on: a segment of the index, or some events behind it.
///
/// # Errors
/// The store's, or that of a damaged log.
pub async fn sweep(tx: &Transaction, tenant: TenantId, now: Timestamp) -> Result<Progress, Error> {
    let Some(mut row) = tx.get::<SweepRow>(PLATFORM, &tenant).await? else { return Ok(Progress::Done) };
    if let Err(StoreError::KeyDestroyed { .. }) = tx.tenant_keys(tenant).await {
        // With the tenant's keys everything is gone, the index and what was said of its keys included.
        tx.delete::<SweepRow>(PLATFORM, &tenant).await?;
        return Ok(Progress::Done);
    }
    if row.pass.is_empty() {
        let rest = row.waiting.split_off(row.waiting.len().min(PASS_KEYS));
        let pass = std::mem::replace(&mut row.waiting, rest);
        row = SweepRow {
            waiting: row.waiting,
            pass: pass.into_iter().map(|key| (key, 0)).collect(),
            ..SweepRow::default()
        };
    }
    if row.pass.is_empty() {
        tx.delete::<SweepRow>(PLATFORM, &tenant).await?;
        return Ok(Progress::Done);
    }
    let before = found(&row);
    let through = if row.tail {
        tail(tx, tenant, &mut row).await?
    } else {
        segment(tx, tenant, &mut row).await?;
        false
    };
    let more = found(&row) - before;
    if through {
        for (key, events) in &row.pass {
            if let Some(destroyed) = tx.get::<AuditDestruction>(tenant, key).await? {
                tx.put(tenant, key, &AuditDestruction { swept_at: Some(now), events: *events, ..destroyed })
                    .await?;
            }
        }
        row = SweepRow { waiting: row.waiting, ..SweepRow::default() };
    }
    tx.put(PLATFORM, &tenant, &row).await?;
    Ok(Progress::More(more))
}

fn found(row: &SweepRow) -> u64 {
    row.pass.iter().map(|(_, events)| events).sum()
}

async fn segment(tx: &Transaction, tenant: TenantId, row: &mut SweepRow) -> Result<(), Error> {
    let (keys, number) = (row.pass.clone(), row.segment);
    let in_time = move |oldest: Timestamp, newest: Timestamp| {
        keys.iter().any(|(key, _)| match key {
            AuditKeyName::Partition(partition) => {
                oldest < partition.period.end() && newest >= partition.period.start()
            }
            AuditKeyName::Subject(_) => true,
        })
    };
    let pass = &mut row.pass;
    let revised = Index::revise(tx, tenant, number, in_time, |leaf| count(pass, leaf)).await?;
    match revised {
        ControlFlow::Continue(last) => {
            row.segment += 1;
            row.after = Some(last);
        }
        ControlFlow::Break(()) => row.tail = true,
    }
    Ok(())
}

/// Looks at what is not in the index; tells whether that was all.
async fn tail(tx: &Transaction, tenant: TenantId, row: &mut SweepRow) -> Result<bool, Error> {
    let span = Span { after: row.after, upto: None };
    let stored = read_span(tx, tenant, span, TAIL_EVENTS).await?;
    for one in &stored {
        count(&mut row.pass, &one.leaf);
    }
    row.after = stored.last().map(|one| one.position).or(row.after);
    Ok(stored.len() < TAIL_EVENTS)
}

/// Counts the event for each of the keys that sealed it; tells whether one did.
fn count(pass: &mut [(AuditKeyName, u64)], leaf: &AuditLeaf) -> bool {
    let Some((partition, subject)) = AuditKeyName::of_event(&leaf.sealed_key_id) else { return false };
    let of = |key: &AuditKeyName| match key {
        AuditKeyName::Partition(one) => *one == partition,
        AuditKeyName::Subject(one) => Some(*one) == subject,
    };
    let mut any = false;
    for (_, events) in pass.iter_mut().filter(|(key, _)| of(key)) {
        *events += 1;
        any = true;
    }
    any
}
