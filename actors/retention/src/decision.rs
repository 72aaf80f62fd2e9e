//! What may be destroyed, and when. Pure.

use aesp_proto::{HoldId, PrincipalId, Timestamp};
use aesp_storage::AuditPeriod;
use serde::{Deserialize, Serialize};

use crate::Hold;

const DAY_MS: i64 = 86_400_000;

/// What the platform lets its tenants decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many days events are kept that a tenant has said nothing about; 0 for ever.
    pub default_days: u32,
    /// What a tenant's rule must keep at least.
    pub minimum_days: u32,
    /// What it may keep at most; 0 for no end.
    pub maximum_days: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { default_days: 0, minimum_days: 1, maximum_days: 0 }
    }
}

impl Limits {
    /// Says what of it can't be: the key, its value, and what is expected.
    ///
    /// # Errors
    /// The first that can't be.
    pub fn check(&self) -> Result<(), (&'static str, u32, &'static str)> {
        const MOST: u32 = 36_525;
        if self.minimum_days > MOST {
            return Err(("minimum_days", self.minimum_days, "at most 36525 days"));
        }
        if self.maximum_days > MOST || (self.maximum_days != 0 && self.maximum_days < self.minimum_days) {
            return Err((
                "maximum_days",
                self.maximum_days,
                "0 for no end, or from minimum_days to 36525 days",
            ));
        }
        if self.bound(self.default_days) != (self.default_days != 0).then_some(self.default_days) {
            return Err((
                "default_days",
                self.default_days,
                "from minimum_days to maximum_days; 0 for ever if there is no maximum",
            ));
        }
        Ok(())
    }

    /// Returns how long events are kept of which a rule says `days` (0 for ever): within the platform's limits, also if those were
    /// changed after the rule was made. Nothing for ever.
    #[must_use]
    pub fn bound(&self, days: u32) -> Option<u32> {
        let days = if days == 0 { None } else { Some(days.max(self.minimum_days)) };
        match self.maximum_days {
            0 => days,
            most => Some(days.map_or(most, |days| days.min(most))),
        }
    }
}

/// What is to become of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its time is not over; nothing for never.
    Keep {
        /// When it will be.
        until: Option<Timestamp>,
    },
    /// Its time is over, but a hold keeps it.
    Held {
        /// The hold.
        by: HoldId,
    },
    /// Its key is to be destroyed.
    Destroy,
}

/// Decides about a partition that is kept for `days` after its end, nothing for ever.
#[must_use]
pub fn verdict(period: AuditPeriod, days: Option<u32>, holds: &[(HoldId, Hold)], now: Timestamp) -> Verdict {
    let until = days.map(|days| Timestamp(period.end().0.saturating_add(i64::from(days) * DAY_MS)));
    match until {
        Some(until) if now >= until => {}
        until => return Verdict::Keep { until },
    }
    // A hold on one person keeps the whole partition: its events lie among the others'.
    let held = holds.iter().find(|(_, hold)| hold.is_active() && hold.scope.meets(period));
    held.map_or(Verdict::Destroy, |(id, _)| Verdict::Held { by: *id })
}

/// Returns the hold that keeps what concerns a principal, whatever time it names: the key of a person is one for all times.
#[must_use]
pub fn hold_on_subject(principal: PrincipalId, holds: &[(HoldId, Hold)]) -> Option<HoldId> {
    let keeps = |hold: &Hold| hold.is_active() && hold.scope.principal.is_none_or(|held| held == principal);
    holds.iter().find(|(_, hold)| keeps(hold)).map(|(id, _)| *id)
}

/// Returns the hold that keeps the tenant from being deleted: any.
#[must_use]
pub fn hold_on_all(holds: &[(HoldId, Hold)]) -> Option<HoldId> {
    holds.iter().find(|(_, hold)| hold.is_active()).map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;
    use crate::{HoldScope, Released};

    fn hold() -> impl Strategy<Value = Hold> {
        let moment = || option::of((0_i64..40_000).prop_map(|day| Timestamp(day * DAY_MS / 2)));
        let principal = option::of((0_u8..3).prop_map(|n| PrincipalId::from_bytes([n; 16])));
        (principal, moment(), moment(), any::<bool>()).prop_map(|(principal, from, to, released)| Hold {
            scope: HoldScope { principal, from, to },
            reason: "test".into(),
            placed_at: Timestamp(0),
            placed_by: PrincipalId::from_bytes([9; 16]),
            of_platform: false,
            released: released.then(|| Released {
                at: Timestamp(1),
                by: PrincipalId::from_bytes([9; 16]),
                reason: String::new(),
            }),
        })
    }

    fn period() -> impl Strategy<Value = AuditPeriod> {
        (any::<u16>(), 0_u32..20_000, 1_u16..32).prop_map(|(class, first_day, days)| AuditPeriod {
            class,
            first_day,
            days,
        })
    }

    fn named(holds: Vec<Hold>) -> Vec<(HoldId, Hold)> {
        (0_u8..).zip(holds).map(|(n, hold)| (HoldId::from_bytes([n; 16]), hold)).collect()
    }

    proptest! {
        #[test]
        fn nothing_is_destroyed_before_its_time_or_under_a_hold(
            period in period(),
            days in option::of(0_u32..4_000),
            holds in proptest::collection::vec(hold(), 0..4),
            now in 0_i64..30_000,
        ) {
            let now = Timestamp(now * DAY_MS + 1);
            let holds = named(holds);
            let over = days.is_some_and(|days| now.0 >= period.end().0 + i64::from(days) * DAY_MS);
            // Written another way: some moment of the period is one of the hold's.
            let meets = |hold: &Hold| (period.first_day..period.first_day + u32::from(period.days)).any(|day| {
                let (start, end) = (i64::from(day) * DAY_MS, (i64::from(day) + 1) * DAY_MS);
                hold.scope.from.is_none_or(|from| from.0 < end) && hold.scope.to.is_none_or(|to| to.0 > start)
                    && hold.scope.from.zip(hold.scope.to).is_none_or(|(from, to)| from < to)
            });
            let held = holds.iter().any(|(_, hold)| hold.released.is_none() && meets(hold));
            match verdict(period, days, &holds, now) {
                Verdict::Keep { until } => {
                    prop_assert!(!over);
                    prop_assert_eq!(until.is_some(), days.is_some());
                    prop_assert!(until.is_none_or(|until| until > now));
                }
                Verdict::Held { by } => {
                    prop_assert!(over && held);
                    let (_, hold) = holds.iter().find(|(id, _)| *id == by).unwrap();
                    prop_assert!(hold.released.is_none() && meets(hold));
                }
                Verdict::Destroy => prop_assert!(over && !held),
            }
        }

        #[test]
        fn a_hold_on_a_person_or_on_all_keeps_the_person(holds in proptest::collection::vec(hold(), 0..4), who in 0_u8..3) {
            let (who, holds) = (PrincipalId::from_bytes([who; 16]), named(holds));
            let kept = holds.iter().any(|(_, hold)| {
                hold.released.is_none() && (hold.scope.principal.is_none() || hold.scope.principal == Some(who))
            });
            prop_assert_eq!(hold_on_subject(who, &holds).is_some(), kept);
            prop_assert_eq!(hold_on_all(&holds).is_some(), holds.iter().any(|(_, hold)| hold.released.is_none()));
        }

        #[test]
        fn rules_stay_within_the_limits(days in 0_u32..9_000, minimum_days in 0_u32..400, above in option::of(0_u32..8_000)) {
            let maximum_days = above.map_or(0, |above| minimum_days.max(1) + above);
            let limits = Limits { default_days: 0, minimum_days, maximum_days };
            match limits.bound(days) {
                None => prop_assert!(days == 0 && maximum_days == 0),
                Some(kept) => {
                    prop_assert!(kept >= minimum_days);
                    prop_assert!(maximum_days == 0 || kept <= maximum_days);
                    prop_assert!(kept == days || kept == minimum_days || kept == maximum_days);
                }
            }
        }
    }
}
