use aesp_audit::RetentionPolicy;
use aesp_proto::{HoldId, TenantId, Timestamp};
use aesp_storage::{AuditDestruction, AuditKeyName, AuditPartition, Scan, Transaction, encode};

use crate::{
    Error, Limits, Verdict,
    decision::verdict,
    hold::{Hold, holds},
    policy::policy,
};

/// A key that was destroyed, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destruction {
    /// Which.
    pub key: AuditKeyName,
    /// The class, for a partition.
    pub class: String,
    /// When, by whom, why.
    pub row: AuditDestruction,
}

/// A partition that still has its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Which.
    pub partition: AuditPartition,
    /// Its class.
    pub class: String,
    /// When its key will be destroyed; nothing for never.
    pub until: Option<Timestamp>,
    /// The hold that keeps it beyond that.
    pub held_by: Option<HoldId>,
}

/// Returns keys that were destroyed, partitions first, in the order of class and time; after the key of a page before.
///
/// # Errors
/// The store's.
pub async fn destructions(
    tx: &Transaction,
    tenant: TenantId,
    after: Option<AuditKeyName>,
    limit: usize,
) -> Result<Vec<Destruction>, Error> {
    let policy = policy(tx, tenant).await?;
    let scan = Scan { after: after.map(|key| encode(&key)), limit, ..Scan::default() };
    let rows = tx.scan::<AuditDestruction>(tenant, scan).await?;
    let class = |key: &AuditKeyName| match key {
        AuditKeyName::Partition(partition) => policy.kept(partition.period.class, 0).1.to_owned(),
        AuditKeyName::Subject(_) => String::new(),
    };
    Ok(rows.into_iter().map(|(key, row)| Destruction { class: class(&key), key, row }).collect())
}

/// Returns the partitions that have their keys, and what is to become of them.
///
/// # Errors
/// The store's.
pub async fn partitions(
    tx: &Transaction,
    tenant: TenantId,
    limits: &Limits,
    now: Timestamp,
) -> Result<Vec<Partition>, Error> {
    let (policy, holds) = (policy(tx, tenant).await?, holds(tx, tenant).await?);
    let all = tx.audit_partitions(tenant).await?;
    Ok(all.into_iter().map(|partition| one(partition, &policy, &holds, limits, now)).collect())
}

fn one(
    partition: AuditPartition,
    policy: &RetentionPolicy,
    holds: &[(HoldId, Hold)],
    limits: &Limits,
    now: Timestamp,
) -> Partition {
    let (days, class) = policy.kept(partition.period.class, limits.default_days);
    let days = limits.bound(days);
    let (until, held_by) = match verdict(partition.period, days, holds, now) {
        Verdict::Keep { until } => (until, None),
        Verdict::Held { by } => (Some(now), Some(by)),
        Verdict::Destroy => (Some(now), None),
    };
    Partition { partition, class: class.to_owned(), until, held_by }
}
