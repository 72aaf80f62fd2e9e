//! How long a tenant's events are kept: the rules, and which stretch of which class an event falls into as it is written.

use std::{collections::BTreeMap, sync::Arc};

use aesp_proto::{PrincipalId, TenantId, Timestamp};
use aesp_storage::{AuditPeriod, Error as StoreError, Kind, Row, TenantKeys, Transaction};
use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use crate::Event;

/// The class of what no rule names.
pub const STANDARD: &str = "standard";
/// Its number.
pub const STANDARD_CLASS: u16 = 0;
/// What is kept for less than that, is kept in stretches of a day; the rest in calendar months.
const DAILY_BELOW_DAYS: u32 = 60;
const DAY_MS: i64 = 86_400_000;

/// The rules of a tenant. Whoever writes this row renames the tenant's keys in the same transaction
/// ([`rename_tenant_keys`](Transaction::rename_tenant_keys)): what was made of it is remembered beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionPolicy {
    /// Counted from 1; 0 before the first change.
    pub version: u64,
    /// When it was changed last.
    pub changed_at: Timestamp,
    /// By whom.
    pub changed_by: Option<PrincipalId>,
    /// The first that fits an event decides.
    pub rules: Vec<RetentionRule>,
    /// How many days events are kept that no rule fits; the platform's default if it is not said, 0 for ever.
    pub standard_days: Option<u32>,
    /// Every class that there ever was, by its number; a number means the same class for ever.
    pub classes: BTreeMap<u16, RetentionClass>,
}

/// Which events belong to a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// The class.
    pub class: u16,
    /// Names of event types; empty for all.
    pub event_types: Vec<String>,
    /// What the action starts with; empty for all.
    pub action_prefix: String,
    /// Classifications of the contract of a call; empty for all events, also those of no contract.
    pub classifications: Vec<String>,
}

/// Events that are kept for the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionClass {
    /// Its name.
    pub name: String,
    /// How many days from the end of their stretch of time; 0 for ever.
    pub days: u32,
}

impl Row for RetentionPolicy {
    const KIND: Kind = Kind::RETENTION_POLICY;
    type Key = ();
}

impl RetentionRule {
    /// Tells whether the event is of this rule.
    #[must_use]
    pub fn fits(&self, event: &Event) -> bool {
        let kind = event.kind.as_str_name();
        (self.event_types.is_empty() || self.event_types.iter().any(|one| one == kind))
            && event.action.starts_with(&self.action_prefix)
            && (self.classifications.is_empty()
                || event.classification.is_some_and(|is| self.classifications.iter().any(|one| one == is)))
    }
}

impl RetentionPolicy {
    /// Returns the class of an event.
    #[must_use]
    pub fn class_of(&self, event: &Event) -> u16 {
        self.rules.iter().find(|rule| rule.fits(event)).map_or(STANDARD_CLASS, |rule| rule.class)
    }

    /// Returns how many days the class is kept, 0 for ever, and its name.
    #[must_use]
    pub fn kept(&self, class: u16, default_days: u32) -> (u32, &str) {
        if class == STANDARD_CLASS {
            return (self.standard_days.unwrap_or(default_days), STANDARD);
        }
        // A class that is not known any more is kept.
        self.classes.get(&class).map_or((0, "unknown"), |class| (class.days, &class.name))
    }

    /// Returns the stretch of time and class that an event of this time falls into.
    #[must_use]
    pub fn period_of(&self, event: &Event, at: Timestamp) -> AuditPeriod {
        let class = self.class_of(event);
        let days = match class {
            STANDARD_CLASS => self.standard_days.unwrap_or_default(),
            class => self.classes.get(&class).map_or(0, |class| class.days),
        };
        period(class, at, (1..DAILY_BELOW_DAYS).contains(&days))
    }
}

fn period(class: u16, at: Timestamp, daily: bool) -> AuditPeriod {
    let day = u32::try_from(at.0.div_euclid(DAY_MS)).unwrap_or_default();
    let one_day = AuditPeriod { class, first_day: day, days: 1 };
    // Beyond the year 9999 a day is as good as a month.
    let (false, Some(date)) = (daily, date(day)) else { return one_day };
    let days = date.month().length(date.year());
    AuditPeriod { class, first_day: day - u32::from(date.day() - 1), days: days.into() }
}

fn date(day: u32) -> Option<Date> {
    OffsetDateTime::from_unix_timestamp(i64::from(day) * DAY_MS / 1_000).ok().map(OffsetDateTime::date)
}

/// Returns whom an event is about: the account that it was done to, or else the one on whose behalf it was done, or who did it.
#[must_use]
pub fn subject_of(event: &Event) -> Option<PrincipalId> {
    let named = event.details.resource.strip_prefix("principal:").and_then(|named| named.split(' ').next());
    named.and_then(|named| named.parse().ok()).or(event.on_behalf_of).or(event.principal)
}

/// Returns the tenant's rules as they are remembered beside its keys, or as the store has them.
///
/// # Errors
/// The store's. A row that is damaged is told, and taken for none: the log must go on, and what no rule names is kept longest.
pub(crate) async fn rules(
    tx: &Transaction,
    tenant: TenantId,
    keys: &TenantKeys,
) -> Result<Arc<RetentionPolicy>, StoreError> {
    if let Some(rules) = keys.remembered() {
        return Ok(rules);
    }
    let rules = match tx.find::<RetentionPolicy>(tenant, &()).await? {
        None => RetentionPolicy::default(),
        Some(found) => found.row.unwrap_or_else(|error| {
            tracing::error!(%tenant, %error, "a tenant's retention rules are damaged; new events are of no rule");
            RetentionPolicy::default()
        }),
    };
    let rules = Arc::new(rules);
    keys.remember(Arc::clone(&rules));
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use aesp_proto::{
        Entropy,
        v1::{EventType, Outcome},
    };
    use proptest::prelude::*;

    use super::*;

    fn event(kind: EventType, action: &str) -> Event {
        Event::new(&Entropy::from_seed(1), TenantId::PLATFORM, kind, action, Outcome::Success)
    }

    fn rule(class: u16) -> RetentionRule {
        RetentionRule {
            class,
            event_types: Vec::new(),
            action_prefix: String::new(),
            classifications: Vec::new(),
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let class = |name: &str, days| RetentionClass { name: name.into(), days };
        let policy = RetentionPolicy {
            rules: vec![
                RetentionRule { classifications: vec!["RESTRICTED".into()], ..rule(2) },
                RetentionRule { event_types: vec!["TOOL_INVOCATION".into()], ..rule(1) },
                RetentionRule { action_prefix: "authentication.".into(), ..rule(3) },
            ],
            standard_days: Some(365),
            classes: BTreeMap::from([
                (1, class("calls", 30)),
                (2, class("secret", 90)),
                (3, class("security", 0)),
            ]),
            ..RetentionPolicy::default()
        };
        let mut call = event(EventType::ToolInvocation, "tool.invoke");
        assert_eq!(policy.class_of(&call), 1);
        call.classification = Some("RESTRICTED");
        assert_eq!(policy.class_of(&call), 2);
        assert_eq!(policy.class_of(&event(EventType::Authentication, "authentication.login")), 3);
        assert_eq!(policy.class_of(&event(EventType::DataAccess, "audit.query")), STANDARD_CLASS);
        assert_eq!(policy.kept(1, 9), (30, "calls"));
        assert_eq!(policy.kept(0, 9), (365, STANDARD));
        assert_eq!(policy.kept(77, 9), (0, "unknown"));
        assert_eq!(RetentionPolicy::default().kept(0, 9), (9, STANDARD));
        // 2023-11-14: a day of what is kept shortly, November of the rest.
        let at = Timestamp(1_700_000_000_000);
        let daily = policy.period_of(&event(EventType::ToolInvocation, "tool.invoke"), at);
        assert_eq!((daily.class, daily.first_day, daily.days), (1, 19_675, 1));
        let monthly = policy.period_of(&event(EventType::DataAccess, "audit.query"), at);
        assert_eq!((monthly.class, monthly.first_day, monthly.days), (0, 19_662, 30));
    }

    #[test]
    fn an_event_is_about_the_account_it_was_done_to() {
        let ids = [1, 2, 3].map(|n| PrincipalId::from_bytes([n; 16]));
        let mut event = event(EventType::ConfigurationChange, "role.assign");
        assert_eq!(subject_of(&event), None);
        event.principal = Some(ids[0]);
        assert_eq!(subject_of(&event), Some(ids[0]));
        event.on_behalf_of = Some(ids[1]);
        assert_eq!(subject_of(&event), Some(ids[1]));
        event.details.resource = format!("principal:{} role:caller", ids[2]);
        assert_eq!(subject_of(&event), Some(ids[2]));
        event.details.resource = "principal:ada".into();
        assert_eq!(subject_of(&event), Some(ids[1]));
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_period(at in 0_i64..4_000_000_000_000, daily: bool, class: u16) {
            let period = period(class, Timestamp(at), daily);
            prop_assert!(period.start().0 <= at && at < period.end().0);
            let usual = if daily { 1..=1 } else { 28..=31 };
            prop_assert!(usual.contains(&period.days));
            // All moments of a period are of the same one.
            prop_assert_eq!(super::period(class, period.start(), daily), period);
            prop_assert_eq!(super::period(class, Timestamp(period.end().0 - 1), daily), period);
        }
    }
}
