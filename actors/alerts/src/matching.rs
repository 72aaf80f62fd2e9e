//! Which events a rule is about, and what it tells them apart by.

use std::collections::BTreeMap;

use aesp_audit::{Filter, tool, words};
use aesp_audit_formats::Severity;
use aesp_outbound::cut;
use aesp_proto::v1::{AuditEvent, EventType, Outcome};
use serde::{Deserialize, Serialize};

/// Which events are meant. What is empty lets everything pass; all that is said must fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Event types, such as `AUTHENTICATION`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Actions: whole (`tool.invoke`), or all of an object (`override.*`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// `SUCCESS`, `FAILURE`, `DENIED`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<String>,
    /// Ids of principals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<String>,
    /// Ids of sessions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<String>,
    /// Resources, exactly as recorded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names of tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Addresses, exactly as recorded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    /// Violated policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Words that all stand in the resource, the reason or the fields.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub words: String,
    /// Fields of the event, with their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// At least this risk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_risk: Option<f64>,
    /// At least this severity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Severity>,
    /// Whether it was reported from outside the Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<bool>,
    /// Not those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub except: Option<Box<Match>>,
}

/// A [`Match`] that was found to make sense.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    filter: Filter,
    /// What the actions begin with, with the dot.
    objects: Vec<String>,
    actions: Vec<String>,
    fields: BTreeMap<String, String>,
    min_severity: Severity,
    except: Option<Box<Matcher>>,
}

/// How deep exceptions of exceptions may go.
const DEPTH: usize = 3;
/// Entries of one list.
const ENTRIES: usize = 100;

impl Match {
    /// Prepares it for use.
    ///
    /// # Errors
    /// What makes no sense in it.
    pub(crate) fn compile(&self) -> Result<Matcher, String> {
        self.compile_within(DEPTH)
    }

    fn compile_within(&self, depth: usize) -> Result<Matcher, String> {
        let lists = [
            &self.types,
            &self.actions,
            &self.outcomes,
            &self.principals,
            &self.sessions,
            &self.resources,
            &self.tools,
            &self.source_ips,
            &self.policies,
        ];
        if lists.iter().any(|list| list.len() > ENTRIES) || self.fields.len() > ENTRIES {
            return Err(format!("a list has more than {ENTRIES} entries"));
        }
        let (groups, actions): (Vec<_>, Vec<_>) =
            self.actions.iter().cloned().partition(|action| action.ends_with(".*"));
        let filter = Filter {
            kinds: read(&self.types, event_type, "is no event type, such as AUTHENTICATION")?,
            principals: read(&self.principals, |text| text.parse().ok(), "is no id of a principal")?,
            sessions: read(&self.sessions, |text| text.parse().ok(), "is no id of a session")?,
            outcomes: read(&self.outcomes, outcome, "is no outcome: SUCCESS, FAILURE or DENIED")?,
            resources: self.resources.clone(),
            tools: self.tools.clone(),
            source_ips: self.source_ips.clone(),
            policies: self.policies.clone(),
            min_risk: self.min_risk,
            external: self.external,
            words: words(&self.words),
            ..Filter::default()
        };
        let except = match &self.except {
            None => None,
            Some(_) if depth == 0 => return Err(format!("exceptions go deeper than {DEPTH}")),
            Some(except) => Some(Box::new(except.compile_within(depth - 1)?)),
        };
        Ok(Matcher {
            filter,
            objects: groups.iter().map(|group| group.trim_end_matches('*').to_owned()).collect(),
            actions,
            fields: self.fields.clone(),
            min_severity: self.min_severity.unwrap_or_default(),
            except,
        })
    }
}

impl Matcher {
    /// Tells whether the event is one of those that are meant.
    pub(crate) fn admits(&self, event: &AuditEvent) -> bool {
        let action = self.objects.is_empty() && self.actions.is_empty()
            || self.actions.contains(&event.action)
            || self.objects.iter().any(|object| event.action.starts_with(object.as_str()));
        action
            && self.filter.admits(event)
            && self.fields.iter().all(|(name, value)| event.metadata.get(name) == Some(value))
            && Severity::of(event) >= self.min_severity
            && self.except.as_ref().is_none_or(|except| !except.admits(event))
    }
}

fn read<T>(texts: &[String], one: impl Fn(&str) -> Option<T>, wrong: &str) -> Result<Vec<T>, String> {
    texts.iter().map(|text| one(text).ok_or_else(|| format!("`{text}` {wrong}"))).collect()
}

/// Reads the name of an event type: `TOOL_INVOCATION`, or `tool-invocation`.
pub(crate) fn event_type(text: &str) -> Option<EventType> {
    let name = text.to_uppercase().replace('-', "_");
    EventType::from_str_name(&name).filter(|kind| *kind != EventType::Unspecified)
}

/// Reads an outcome, in large or small letters.
pub(crate) fn outcome(text: &str) -> Option<Outcome> {
    let name = format!("OUTCOME_{}", text.to_uppercase());
    Outcome::from_str_name(&name).filter(|outcome| *outcome != Outcome::Unspecified)
}

/// By what a rule tells events apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// As it stands in the rule.
    pub(crate) name: String,
    /// As it is called in labels.
    pub(crate) label: String,
}

/// What stands before the name of an event's own field.
const OWN: &str = "field:";
/// Bytes of a value that count.
const VALUE_BYTES: usize = 200;
const FIELDS: [&str; 10] = [
    "principal",
    "session",
    "action",
    "outcome",
    "type",
    "resource",
    "tool",
    "source_ip",
    "reason",
    "policy",
];

impl Field {
    /// Reads the name of a field.
    ///
    /// # Errors
    /// What would be right.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let label = match name.strip_prefix(OWN) {
            Some(own) => own,
            None if FIELDS.contains(&name) => name,
            None => return Err(format!("`{name}` is none of {}, or field:NAME", FIELDS.join(", "))),
        };
        if !is_label(label) {
            return Err(format!("`{label}` is no name of letters, digits and `_`"));
        }
        Ok(Self { name: name.to_owned(), label: label.to_owned() })
    }

    /// Returns the value that the event has, bounded and without control characters; empty if it has none.
    pub(crate) fn of(&self, event: &AuditEvent) -> String {
        let value = match self.name.as_str() {
            "principal" => event.principal_id.as_str(),
            "session" => &event.session_id,
            "action" => &event.action,
            "outcome" => event.outcome().as_str_name().trim_start_matches("OUTCOME_"),
            "type" => event.event_type().as_str_name(),
            "resource" => &event.resource,
            "tool" => tool(&event.resource).unwrap_or_default(),
            "source_ip" => &event.source_ip,
            "reason" => &event.reason,
            "policy" => event.policy_violations.first().map(String::as_str).unwrap_or_default(),
            own => {
                let own = own.strip_prefix(OWN).unwrap_or_default();
                event.metadata.get(own).map(String::as_str).unwrap_or_default()
            }
        };
        let value = cut(value.to_owned());
        value[..value.floor_char_boundary(VALUE_BYTES)].to_owned()
    }
}

/// Tells whether a label may be called so.
///
/// Source: Prometheus, "Data model": label names.
pub(crate) fn is_label(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.len() <= 63
        && !name.starts_with("__")
        && name.starts_with(first)
        && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// Tells whether the event is about alerts, and made by their own duties: rules never see those, or alerts about alerts would never end.
pub(crate) fn is_own(event: &AuditEvent) -> bool {
    OWN_ACTIONS.contains(&event.action.as_str())
}

/// What the duties themselves put on record.
pub(crate) const OWN_ACTIONS: [&str; 6] = [
    "alert.fired",
    "alert.resolved",
    "alert.escalated",
    "alert.delivered",
    "alert.delivery_failed",
    "alert.undeliverable",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, outcome: Outcome) -> AuditEvent {
        AuditEvent { action: action.into(), outcome: outcome.into(), ..AuditEvent::default() }
    }

    fn matcher(text: &str) -> Matcher {
        toml::from_str::<Match>(text).unwrap().compile().unwrap()
    }

    #[test]
    fn actions_are_meant_whole_or_by_their_object() {
        let meant = matcher("actions = [\"override.*\", \"log.damaged\"]");
        for (action, is_meant) in [
            ("override.begin", true),
            ("log.damaged", true),
            ("log.damaged.not", false),
            ("overrides.begin", false),
        ] {
            assert_eq!(meant.admits(&event(action, Outcome::Success)), is_meant, "{action}");
        }
    }

    #[test]
    fn all_conditions_hold_but_for_the_exception() {
        let meant =
            matcher("outcomes = [\"denied\"]\nfields = { node = \"a\" }\n[except]\nactions = [\"tool.*\"]");
        let mut one = event("tenant.read", Outcome::Denied);
        assert!(!meant.admits(&one));
        one.metadata.insert("node".into(), "a".into());
        assert!(meant.admits(&one));
        one.action = "tool.invoke".into();
        assert!(!meant.admits(&one));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (text, why) in [
            ("types = [\"NOTHING\"]", "NOTHING"),
            ("outcomes = [\"maybe\"]", "maybe"),
            ("principals = [\"bob\"]", "bob"),
        ] {
            let error = toml::from_str::<Match>(text).unwrap().compile().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let mut deep = Match::default();
        for _ in 0..=DEPTH {
            deep = Match { except: Some(Box::new(deep)), ..Match::default() };
        }
        assert!(deep.compile().is_err());
        assert!(Field::parse("color").unwrap_err().contains("source_ip"));
        assert!(Field::parse("field:a-b").is_err() && Field::parse("field:__a").is_err());
    }

    #[test]
    fn values_are_bounded_and_on_one_line() {
        let mut one = event("tool.invoke", Outcome::Denied);
        one.resource = format!("tool:{}\n@1", "ä".repeat(500));
        let value = Field::parse("tool").unwrap().of(&one);
        assert!(value.len() <= VALUE_BYTES && !value.contains('\n') && value.starts_with('ä'));
        one.metadata.insert("node".into(), "n1".into());
        assert_eq!(Field::parse("field:node").unwrap().of(&one), "n1");
        assert_eq!(Field::parse("outcome").unwrap().of(&one), "DENIED");
    }
}
