//! The declarative form of rules, as people write it in TOML or JSON.

use std::collections::BTreeMap;

use aesp_audit_formats::Severity;
use serde::{Deserialize, Serialize};

use crate::{Match, Wait};

/// The rules of a tenant: its own, changes to the built-in ones, and tests of all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// The tenant's own.
    pub rules: Vec<RuleForm>,
    /// Changes to built-in rules, by their names.
    pub builtin: BTreeMap<String, Tuning>,
    /// What must hold, or the document is not taken.
    pub tests: Vec<TestForm>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleForm {
    /// Names it within the tenant.
    pub name: String,
    /// For people: what it is about and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How much an alert of it is worth a look; `medium` if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What sort of condition it has.
    pub kind: Kind,
    /// The events that it counts.
    pub events: Match,
    /// `ratio`: the events of which these are a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Match>,
    /// `threshold`: so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// `rate`: so many a second, on average over the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// `ratio`: this part of `of`, above 0 and up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// `ratio`: at least so many of `of` in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_total: Option<u64>,
    /// How far back events count; `absence`: how long there may be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Wait>,
    /// Tells events apart: each group has counts, and alerts, of its own. `first_seen`: what is new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_by: Vec<String>,
    /// How long the condition must hold before it is an alert.
    #[serde(rename = "for", skip_serializing_if = "Wait::is_zero")]
    pub hold: Wait,
    /// How long an alert stays after the condition is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_for: Option<Wait>,
    /// These end an alert of their group at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve_on: Option<Match>,
    /// An alert stays until somebody ends it.
    #[serde(skip_serializing_if = "is_false")]
    pub manual_resolve: bool,
    /// `first_seen`, `absence`: how long a group that is not seen any more is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Wait>,
    /// `first_seen`: how long after the rule began it only remembers.
    #[serde(skip_serializing_if = "Wait::is_zero")]
    pub learn: Wait,
    /// `absence` without groups: from when the time counts.
    #[serde(skip_serializing_if = "Armed::is_default")]
    pub armed: Armed,
    /// The most groups; 0 for 500, or 10,000 of `first_seen`.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_groups: u32,
    /// Put on every alert.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Texts for people, with `{…}` for values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who is told; those of the configuration's `default` if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<String>,
    /// Who is told, too, when nobody has acknowledged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub escalate: Vec<Escalation>,
    /// How often who was told is told again; the receiver's own time if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Wait>,
}

/// What sort of condition a rule has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Many events within a window.
    #[default]
    Threshold,
    /// Events a second over a window.
    Rate,
    /// A part of all events within a window.
    Ratio,
    /// No event for some time.
    Absence,
    /// A value never seen before, as far as it is remembered.
    FirstSeen,
}

/// From when an absence counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Armed {
    /// From the first event on: what never came is not missed.
    #[default]
    FirstEvent,
    /// From when the rule began.
    AtOnce,
}

impl Armed {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who is told later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// If nobody has acknowledged so long after the alert began.
    pub after: Wait,
    /// Who is told then.
    pub receivers: Vec<String>,
}

/// Changes to a built-in rule. What is not said stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// Whether it is there at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// As of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// As of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// As of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Wait>,
    /// As of a rule.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Wait>,
    /// As of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_for: Option<Wait>,
    /// As of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receivers: Option<Vec<String>>,
    /// As of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Vec<Escalation>>,
    /// As of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Wait>,
    /// Not those events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub except: Option<Match>,
}

/// Made-up events, and the alerts that they must give.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestForm {
    /// Names the test.
    pub name: String,
    /// What happens.
    pub events: Vec<EventForm>,
    /// When it is over, after the beginning; an hour after the last event if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Wait>,
    /// The rules that are looked at; those of `expect`, or all if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Everything that becomes of their alerts, in any order.
    pub expect: Vec<Expected>,
}

/// A made-up event, or several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventForm {
    /// When, after the beginning.
    pub at: Wait,
    /// So often; 0 and 1 mean once.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeat: u32,
    /// With this time between them.
    #[serde(skip_serializing_if = "Wait::is_zero")]
    pub every: Wait,
    /// The event type; `SYSTEM_EVENT` if nothing is said.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The operation.
    pub action: String,
    /// `SUCCESS` if nothing is said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    /// The id of who did it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub principal: String,
    /// The id of the session.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// What it was done to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// The client's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_ip: String,
    /// Why it ended so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Violated policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Further fields.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// An estimate of the risk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<f64>,
    /// How many like it this one stands for; 0 and 1 mean one.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u32,
}

/// What is expected of an alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    /// Of which rule.
    pub rule: String,
    /// What becomes of it.
    pub state: Became,
    /// When, after the beginning; a thirtieth of the rule's window earlier or later is right, too. Any time if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Wait>,
    /// Its group, by the labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub group: BTreeMap<String, String>,
}

/// What becomes of an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Became {
    /// It begins.
    #[default]
    Fired,
    /// It ends.
    Resolved,
}

impl Became {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Resolved => "resolved",
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The longest document.
pub(crate) const DOCUMENT_BYTES: usize = 256 << 10;

impl Document {
    /// Reads a document in JSON, if it begins with a brace, or in TOML.
    ///
    /// # Errors
    /// Where it can't be read, and why.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.len() > DOCUMENT_BYTES {
            return Err(format!("the document has more than {} KiB", DOCUMENT_BYTES >> 10));
        }
        if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            toml::from_str(text).map_err(|error| error.to_string())
        }
    }
}
