use std::collections::BTreeSet;

use aesp_proto::{HoldId, PrincipalId, TenantId, Timestamp};
use aesp_storage::{AuditKeyName, AuditPartition, Destroyed, Transaction};

use crate::{
    Error, Limits,
    decision::{Verdict, hold_on_subject, verdict},
    hold::{check_reason, holds},
    policy::policy,
    sweep,
};

/// The most keys that one transaction destroys.
const AT_ONCE: usize = 200;

/// A partition whose time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub partition: AuditPartition,
    /// By which rule, as people read it.
    pub rule: String,
}

/// What an erasure took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The keys that were destroyed.
    pub keys: BTreeSet<AuditKeyName>,
}

/// Returns the partitions whose keys are to be destroyed now, at most 200, and the holds that keep others whose time is over.
///
/// # Errors
/// The store's.
pub async fn due(
    tx: &Transaction,
    tenant: TenantId,
    limits: &Limits,
    now: Timestamp,
) -> Result<(Vec<Due>, BTreeSet<HoldId>), Error> {
    let (mut due, mut held) = (Vec::new(), BTreeSet::new());
    let partitions = tx.audit_partitions(tenant).await?;
    // Nothing of a stretch that is not over is looked at: mostly there is no other.
    let over: Vec<AuditPartition> = partitions.into_iter().filter(|one| one.period.end() <= now).collect();
    if over.is_empty() {
        return Ok((due, held));
    }
    let (policy, holds) = (policy(tx, tenant).await?, holds(tx, tenant).await?);
    for partition in over {
        let (days, name) = policy.kept(partition.period.class, limits.default_days);
        let days = limits.bound(days);
        match verdict(partition.period, days, &holds, now) {
            Verdict::Keep { .. } => {}
            Verdict::Held { by } => drop(held.insert(by)),
            Verdict::Destroy if due.len() < AT_ONCE => {
                let days = days.unwrap_or_default();
                let rule =
                    format!("retention: class {name}, {days} days, rules of version {}", policy.version);
                due.push(Due { partition, rule });
            }
            Verdict::Destroy => {}
        }
    }
    Ok((due, held))
}

/// Destroys the keys of the partitions whose time is over, at most 200; returns which. Whoever places a hold or changes the rules
/// meanwhile makes it decide again.
///
/// # Errors
/// The store's; that of the key provider.
pub async fn destroy_due(
    tx: &Transaction,
    tenant: TenantId,
    limits: &Limits,
    now: Timestamp,
) -> Result<Vec<Due>, Error> {
    let (due, _) = due(tx, tenant, limits, now).await?;
    let mut all = BTreeSet::new();
    for one in &due {
        let name = AuditKeyName::Partition(one.partition);
        let why = Destroyed { at: now, by: None, rule: one.rule.clone(), reason: String::new() };
        tx.destroy_audit_key(tenant, name, &why).await?;
        all.insert(name);
    }
    if !all.is_empty() {
        tx.rename_tenant_keys(tenant).await?;
        sweep::ask(tx, tenant, &all).await?;
    }
    Ok(due)
}

/// Destroys the key of a principal, so that nothing that was sealed about it can be read any more, in any partition.
///
/// # Errors
/// [`Error::Held`] if a hold keeps it, [`Error::NothingToErase`], [`Error::Invalid`] without a reason, the store's; that of the key
/// provider.
pub async fn erase(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
    reason: &str,
    (by, now): (PrincipalId, Timestamp),
) -> Result<Erased, Error> {
    check_reason(reason)?;
    // An erasure must succeed on a full store, too.
    tx.use_reserve();
    if let Some(hold) = hold_on_subject(principal, &holds(tx, tenant).await?) {
        return Err(Error::Held(hold));
    }
    let subjects = tx.audit_subjects(tenant, principal).await?;
    if subjects.is_empty() {
        return Err(Error::NothingToErase);
    }
    let keys: BTreeSet<AuditKeyName> = subjects.into_iter().map(AuditKeyName::Subject).collect();
    let why = Destroyed {
        at: now,
        by: Some(by),
        rule: "erasure of a person or account".into(),
        reason: reason.into(),
    };
    for key in &keys {
        tx.destroy_audit_key(tenant, *key, &why).await?;
    }
    tx.rename_tenant_keys(tenant).await?;
    sweep::ask(tx, tenant, &keys).await?;
    Ok(Erased { keys })
}
