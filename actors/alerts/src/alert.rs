//! An alert, as it is kept and told. Pure.

use std::collections::BTreeMap;

use aesp_audit_formats::Severity;
use aesp_proto::{AlertId, EventId, PrincipalId, TenantId, Timestamp};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{document::Escalation, group::Group, rule::Rule};

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Names it.
    pub id: AlertId,
    /// The rule that gave it.
    pub rule: String,
    /// As the rule has it.
    pub severity: Severity,
    /// What tells it from others: `alertname`, `severity`, `tenant`, the values of its group, the rule's own.
    pub labels: BTreeMap<String, String>,
    /// For people.
    pub annotations: BTreeMap<String, String>,
    /// What was measured when it began.
    pub value: String,
    /// The last few events before it.
    pub events: Vec<EventId>,
    /// When it began.
    pub began: Timestamp,
    /// When it ended; not at all while it lasts.
    pub ended: Option<Timestamp>,
    /// Why it ended.
    #[serde(default)]
    pub ended_because: String,
    /// Who takes care of it.
    pub acknowledged: Option<Acknowledged>,
    /// Who is told of it.
    pub receivers: Vec<String>,
    /// Who will be told, too.
    pub(crate) escalate: Vec<Escalation>,
    /// How many steps of that were taken.
    pub(crate) escalated: usize,
    pub(crate) repeat_ms: Option<i64>,
    /// The same for every alert of the rule and group, at whatever home: receivers tell by it that they have one already.
    pub dedup_key: String,
}

/// Who takes care of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who.
    pub by: PrincipalId,
    /// Since when.
    pub at: Timestamp,
    /// What they say.
    pub note: String,
}

impl Alert {
    /// Writes the alert of a group.
    pub(crate) fn new(
        tenant: TenantId,
        rule: &Rule,
        group: &Group,
        (id, began, value): (AlertId, Timestamp, &str),
        receivers: &[String],
    ) -> Self {
        let mut labels = labels(tenant, rule, group);
        let mut values = labels.clone();
        values.insert("rule".into(), rule.name.clone());
        values.insert("value".into(), value.to_owned());
        let annotations =
            rule.annotations.iter().map(|(name, text)| (name.clone(), text.fill(&values))).collect();
        let dedup_key = dedup_key(&labels);
        labels.extend(rule.labels.clone());
        Self {
            id,
            rule: rule.name.clone(),
            severity: rule.severity,
            labels,
            annotations,
            value: value.to_owned(),
            events: group.events.clone(),
            began,
            ended: None,
            ended_because: String::new(),
            acknowledged: None,
            receivers: receivers.to_vec(),
            escalate: rule.escalate.clone(),
            escalated: 0,
            repeat_ms: rule.repeat.map(crate::Wait::ms),
            dedup_key,
        }
    }

    /// Returns how many steps of the escalation were taken.
    #[must_use]
    pub fn escalated(&self) -> usize {
        self.escalated
    }

    /// Tells whether it lasts.
    #[must_use]
    pub fn is_firing(&self) -> bool {
        self.ended.is_none()
    }

    /// Returns one line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.annotations.get("summary") {
            Some(summary) if !summary.is_empty() => summary.clone(),
            _ => self.rule.clone(),
        }
    }

    /// Returns when the next step of the escalation is to be taken, if nobody acknowledges.
    pub(crate) fn next_escalation(&self) -> Option<Timestamp> {
        if !self.is_firing() || self.acknowledged.is_some() {
            return None;
        }
        let step = self.escalate.get(self.escalated)?;
        Some(self.began.plus(step.after.0))
    }
}

/// Returns what the Host says of the alerts of a group.
pub(crate) fn labels(tenant: TenantId, rule: &Rule, group: &Group) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("alertname".to_owned(), rule.name.clone()),
        ("severity".to_owned(), rule.severity.name().to_owned()),
        ("tenant".to_owned(), tenant.to_string()),
    ]);
    if group.overflow {
        labels.insert("overflow".into(), "true".into());
    }
    for (field, value) in rule.group_by.iter().zip(&group.values) {
        labels.insert(field.label.clone(), value.clone());
    }
    labels
}

/// Severity may be tuned while an alert lasts, and changes nothing about which it is.
fn dedup_key(labels: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for (name, value) in labels.iter().filter(|(name, _)| *name != "severity") {
        for part in [name, value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    HEXLOWER.encode(&hash.finalize()[..16])
}
