use std::collections::BTreeMap;

use aesp_audit::{RetentionClass, RetentionPolicy, RetentionRule, STANDARD, STANDARD_CLASS};
use aesp_proto::{PrincipalId, TenantId, Timestamp, v1::EventType};
use aesp_storage::{Kind, Row, Transaction};
use serde::{Deserialize, Serialize};

use crate::{Error, Limits};

/// Rules of one tenant: each is looked at as an event is written.
const MOST_RULES: usize = 32;
/// Classes that a tenant may ever have had.
const MOST_CLASSES: usize = 200;
/// Bytes of a name, a prefix, a classification.
const TEXT_BYTES: usize = 64;
/// A hundred years.
const MOST_DAYS: u32 = 36_525;
const CLASSIFICATIONS: [&str; 4] = ["PUBLIC", "INTERNAL", "CONFIDENTIAL", "RESTRICTED"];

/// The rules as they are asked for.
#[derive(Clone, Debug, Default)]
pub struct NewPolicy {
    /// The first that fits decides.
    pub rules: Vec<NewRule>,
    /// Days of what no rule fits; the platform's default if it is not said, 0 for ever.
    pub standard_days: Option<u32>,
}

/// A rule as it is asked for.
#[derive(Clone, Debug, Default)]
pub struct NewRule {
    /// The class of what it fits. A class that was there before keeps its events under the days that are said now.
    pub name: String,
    /// Names of event types; empty for all.
    pub event_types: Vec<String>,
    /// What the action starts with; empty for all.
    pub action_prefix: String,
    /// Classifications of contracts; empty for all.
    pub classifications: Vec<String>,
    /// Days; 0 for ever.
    pub days: u32,
}

/// What the rules were before a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Former(RetentionPolicy);

impl Row for Former {
    const KIND: Kind = Kind::RETENTION_HISTORY;
    type Key = u64;
}

/// Returns the rules of a tenant.
///
/// # Errors
/// The store's.
pub async fn policy(tx: &Transaction, tenant: TenantId) -> Result<RetentionPolicy, Error> {
    Ok(tx.get::<RetentionPolicy>(tenant, &()).await?.unwrap_or_default())
}

/// Returns the rules as they were at a version, or as they are (0).
///
/// # Errors
/// [`Error::Invalid`] if there never was such a version, or the store's.
pub async fn wanted_version(
    tx: &Transaction,
    tenant: TenantId,
    version: u64,
) -> Result<RetentionPolicy, Error> {
    let now = policy(tx, tenant).await?;
    if version == 0 || version == now.version {
        return Ok(now);
    }
    let former = tx.get::<Former>(tenant, &version).await?;
    former.map(|Former(policy)| policy).ok_or_else(|| Error::Invalid("there is no such version".into()))
}

/// Gives the tenant other rules. Those before stay readable by their version. New events follow the new rules from this commit on;
/// events of before stay in their classes, which are kept as long as is said now.
///
/// # Errors
/// [`Error::Invalid`] if the rules are none or beyond the platform's limits, [`Error::Changed`] if they are not at the version
/// `expected` any more (0 looks at none), or the store's.
pub async fn set_policy(
    tx: &Transaction,
    tenant: TenantId,
    new: &NewPolicy,
    limits: &Limits,
    expected: u64,
    (by, now): (PrincipalId, Timestamp),
) -> Result<RetentionPolicy, Error> {
    check(new, limits)?;
    let before = policy(tx, tenant).await?;
    if expected != 0 && expected != before.version {
        return Err(Error::Changed(before.version));
    }
    let mut classes = before.classes.clone();
    let mut rules = Vec::with_capacity(new.rules.len());
    for rule in &new.rules {
        let known = classes.iter().find(|(_, class)| class.name == rule.name).map(|(number, _)| *number);
        let next = classes.keys().last().map_or(STANDARD_CLASS + 1, |last| last.saturating_add(1));
        let class = known.unwrap_or(next);
        classes.insert(class, RetentionClass { name: rule.name.clone(), days: rule.days });
        rules.push(RetentionRule {
            class,
            event_types: rule.event_types.clone(),
            action_prefix: rule.action_prefix.clone(),
            classifications: rule.classifications.clone(),
        });
    }
    if classes.len() > MOST_CLASSES {
        return Err(Error::Invalid(format!(
            "a tenant has at most {MOST_CLASSES} classes, former ones included"
        )));
    }
    let version = before.version + 1;
    let policy = RetentionPolicy {
        version,
        changed_at: now,
        changed_by: Some(by),
        rules,
        standard_days: new.standard_days,
        classes,
    };
    let former = before.version;
    if former > 0 {
        tx.put(tenant, &former, &Former(before)).await?;
    }
    tx.put(tenant, &(), &policy).await?;
    tx.rename_tenant_keys(tenant).await?;
    Ok(policy)
}

fn check(new: &NewPolicy, limits: &Limits) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::Invalid(text));
    if new.rules.len() > MOST_RULES {
        return refuse(format!("a tenant has at most {MOST_RULES} rules"));
    }
    let mut days = BTreeMap::new();
    for rule in &new.rules {
        let name = &rule.name;
        let sound = !name.is_empty()
            && name.len() <= TEXT_BYTES
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
        if !sound {
            return refuse(format!(
                "the name of a rule has 1 to {TEXT_BYTES} lower-case letters, digits, - or _"
            ));
        }
        if name == STANDARD {
            return refuse(format!("{STANDARD} is what no rule fits: say its days with standard_days"));
        }
        if *days.entry(name).or_insert(rule.days) != rule.days {
            return refuse(format!("the rules called {name} say different days"));
        }
        if let Some(kind) = rule.event_types.iter().find(|kind| !is_event_type(kind)) {
            return refuse(format!("{kind} is no event type"));
        }
        if rule.action_prefix.len() > TEXT_BYTES {
            return refuse(format!("an action prefix has at most {TEXT_BYTES} bytes"));
        }
        if let Some(other) = rule.classifications.iter().find(|one| !CLASSIFICATIONS.contains(&one.as_str()))
        {
            return refuse(format!("{other} is no classification: {}", CLASSIFICATIONS.join(", ")));
        }
        check_days(name, rule.days, limits)?;
    }
    new.standard_days.map_or(Ok(()), |days| check_days(STANDARD, days, limits))
}

fn is_event_type(name: &str) -> bool {
    EventType::from_str_name(name).is_some_and(|kind| kind != EventType::Unspecified)
}

fn check_days(name: &str, days: u32, limits: &Limits) -> Result<(), Error> {
    if days > MOST_DAYS {
        return Err(Error::Invalid(format!("{name}: at most {MOST_DAYS} days; 0 keeps for ever")));
    }
    match limits.bound(days) {
        kept if kept == (days != 0).then_some(days) => Ok(()),
        _ => {
            let most = match limits.maximum_days {
                0 => "no end".to_owned(),
                most => format!("{most} days"),
            };
            let least = limits.minimum_days;
            Err(Error::Invalid(format!("{name}: the platform wants events kept for {least} days to {most}")))
        }
    }
}
