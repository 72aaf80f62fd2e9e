//! One group of a rule: what was counted, and whether there is an alert. Pure.

use aesp_proto::{AlertId, EventId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Wait,
    rule::{Condition, Rule},
    window::{Counts, Window},
};

/// The events of a rule that have the same values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// In the order of the rule's `group_by`.
    pub(crate) values: Vec<String>,
    /// Stands for all groups beyond the most that the rule may have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) overflow: bool,
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    hits: Counts,
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    totals: Counts,
    /// When it was seen last.
    last: Timestamp,
    pub(crate) phase: Phase,
    /// The last few of its events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<EventId>,
    /// It is new, and that was not looked at yet.
    #[serde(skip)]
    new: bool,
}

/// Whether there is an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// There is none.
    #[default]
    Quiet,
    /// The condition holds, and not yet long enough.
    Pending { since: Timestamp },
    /// There is one.
    Firing {
        alert: AlertId,
        /// Since when the condition is gone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gone: Option<Timestamp>,
    },
}

/// What became of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Turn {
    /// There is an alert, for which this was measured.
    Fired { at: Timestamp, alert: AlertId, value: String },
    /// It is over.
    Resolved { at: Timestamp, alert: AlertId, why: &'static str },
}

/// Events that are kept of each group.
const EVENTS: usize = 3;
/// How long a rule without a window speaks of more groups than it may have.
const OVERFLOW: Wait = Wait::seconds(3_600);

/// Why alerts end.
pub(crate) const GONE: &str = "the condition is gone";
pub(crate) const ENDED: &str = "an event ended it";
pub(crate) const FORGOTTEN: &str = "the group was not seen for so long that it is forgotten";
pub(crate) const BY_HAND: &str = "somebody ended it";

impl Group {
    pub(crate) fn new(values: Vec<String>, overflow: bool, at: Timestamp) -> Self {
        Self {
            values,
            overflow,
            hits: Counts::default(),
            totals: Counts::default(),
            last: at,
            phase: Phase::Quiet,
            events: Vec::new(),
            new: false,
        }
    }

    /// Says that it was not there before.
    pub(crate) fn mark_new(&mut self) {
        self.new = true;
    }

    fn window(&self, rule: &Rule) -> Option<Window> {
        rule.condition.window().or_else(|| self.overflow.then(|| Window::new(OVERFLOW)))
    }

    /// Counts events at `at`: `hit` of those that are meant, `total` of those that they are a part of.
    pub(crate) fn count(
        &mut self,
        rule: &Rule,
        now: Timestamp,
        at: Timestamp,
        hit: u64,
        total: u64,
        event: Option<EventId>,
    ) {
        if let Some(window) = self.window(rule) {
            if hit > 0 {
                self.hits.add(window, now, at, hit);
            }
            if total > 0 {
                self.totals.add(window, now, at, total);
            }
        }
        if hit == 0 {
            return;
        }
        // A row need not be written for each event of something that is seen all the time.
        let grain = match rule.condition {
            Condition::FirstSeen { memory_ms, .. } => memory_ms / 32,
            _ => 0,
        };
        if at.0 >= self.last.0.saturating_add(grain) {
            self.last = at;
        }
        if let Some(event) = event {
            if self.events.len() == EVENTS {
                self.events.remove(0);
            }
            self.events.push(event);
        }
    }

    /// Tells whether the condition holds, and what was measured.
    fn holds(&mut self, rule: &Rule, t: Timestamp) -> (bool, String) {
        let hits = self.hits.sum();
        if self.overflow {
            return (hits > 0, hits.to_string());
        }
        match &rule.condition {
            Condition::Threshold { count, .. } => (hits >= *count, hits.to_string()),
            Condition::Rate { per_second, window } => {
                let rate = hits as f64 * 1_000.0 / window.length_ms() as f64;
                (rate >= *per_second, format!("{rate:.3}"))
            }
            Condition::Ratio { ratio, min_total, .. } => {
                let total = self.totals.sum();
                let is = if total == 0 { 0.0 } else { hits as f64 / total as f64 };
                (total >= *min_total && is >= *ratio, format!("{is:.3}"))
            }
            Condition::Absence { after_ms, .. } => {
                let silent = t.since(self.last);
                (t.0.saturating_sub(self.last.0) >= *after_ms, Wait(silent).to_string())
            }
            Condition::FirstSeen { .. } => (std::mem::take(&mut self.new), "1".to_owned()),
        }
    }

    /// Looks at the group at `t`, which is never before the last look. Returns whether it is to be kept.
    pub(crate) fn look(
        &mut self,
        rule: &Rule,
        t: Timestamp,
        ids: &mut dyn FnMut(Timestamp) -> AlertId,
        turns: &mut Vec<Turn>,
    ) -> bool {
        if let Some(window) = self.window(rule) {
            self.hits.prune(window, t);
            self.totals.prune(window, t);
        }
        let (mut holds, value) = self.holds(rule, t);
        let hold_ms = if self.overflow { 0 } else { rule.hold_ms };
        let fires = match self.phase {
            Phase::Quiet if holds && hold_ms > 0 => {
                self.phase = Phase::Pending { since: t };
                false
            }
            Phase::Quiet => holds,
            Phase::Pending { .. } if !holds => {
                self.phase = Phase::Quiet;
                false
            }
            Phase::Pending { since } => t.0 >= since.0.saturating_add(hold_ms),
            Phase::Firing { .. } => false,
        };
        if fires {
            let alert = ids(t);
            self.phase = Phase::Firing { alert, gone: None };
            turns.push(Turn::Fired { at: t, alert, value });
        }
        if matches!(rule.condition, Condition::FirstSeen { .. }) && !self.overflow {
            // That it is new is over as soon as it was seen.
            holds = false;
        }
        let forgotten = self.is_forgotten(rule, t);
        if let Phase::Firing { alert, gone } = self.phase
            && !rule.manual_resolve
        {
            let gone = if holds { None } else { Some(gone.unwrap_or(t)) };
            let over = gone.is_some_and(|gone| t.0 >= gone.0.saturating_add(rule.keep_ms));
            // What is absent for ever would be an alert for ever.
            let lost = forgotten && matches!(rule.condition, Condition::Absence { .. });
            self.phase = if over || lost { Phase::Quiet } else { Phase::Firing { alert, gone } };
            if over || lost {
                turns.push(Turn::Resolved { at: t, alert, why: if over { GONE } else { FORGOTTEN } });
            }
        }
        !(forgotten && self.phase == Phase::Quiet)
    }

    /// Ends the alert, if there is one, and what was counted for it.
    pub(crate) fn end(&mut self, t: Timestamp, why: &'static str, turns: &mut Vec<Turn>) {
        let phase = std::mem::take(&mut self.phase);
        if let Phase::Firing { alert, .. } = phase {
            turns.push(Turn::Resolved { at: t, alert, why });
        }
        self.hits.clear();
        self.totals.clear();
        self.last = self.last.max(t);
    }

    fn is_forgotten(&self, rule: &Rule, t: Timestamp) -> bool {
        let after = |memory_ms: i64| t.0 >= self.last.0.saturating_add(memory_ms);
        if self.window(rule).is_some() {
            return self.hits.is_empty() && self.totals.is_empty();
        }
        match rule.condition {
            Condition::Absence { at_once, memory_ms, .. } => !at_once && after(memory_ms),
            Condition::FirstSeen { memory_ms, .. } => after(memory_ms),
            _ => true,
        }
    }

    /// Returns when to look again, after `t`, if no event comes before.
    pub(crate) fn next_look(&self, rule: &Rule, t: Timestamp) -> Option<Timestamp> {
        let after = |at: Timestamp, ms: i64| Timestamp(at.0.saturating_add(ms));
        let over = self.window(rule).and_then(|window| {
            self.hits.next_over(window).into_iter().chain(self.totals.next_over(window)).min()
        });
        let phase = match self.phase {
            Phase::Pending { since } => Some(after(since, rule.hold_ms)),
            Phase::Firing { gone: Some(gone), .. } => Some(after(gone, rule.keep_ms)),
            _ => None,
        };
        let (silent, forgotten) = match rule.condition {
            _ if self.overflow => (None, None),
            Condition::Absence { after_ms, memory_ms, at_once } => {
                (Some(after(self.last, after_ms)), (!at_once).then(|| after(self.last, memory_ms)))
            }
            Condition::FirstSeen { memory_ms, .. } => (None, Some(after(self.last, memory_ms))),
            _ => (None, None),
        };
        [over, phase, silent, forgotten].into_iter().flatten().filter(|at| *at > t).min()
    }
}
