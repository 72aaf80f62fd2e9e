use std::str::FromStr;

use aesp_proto::{
    TenantId, Timestamp,
    v1::{AuditEvent, EventType, Outcome},
};
use serde::{Deserialize, Serialize};

/// How much an event asks for attention. The same in every format; the numbers of syslog and OpenTelemetry follow from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    #[default]
    Informational,
    /// As it should be, and worth a look: what administrators change.
    Notice,
    /// Something was denied, or carries a risk of one half or more.
    Warning,
    /// Something failed, or carries a risk of eight tenths or more.
    Error,
    /// A violated policy or an alert.
    Critical,
}

impl Severity {
    /// Reads it from an event.
    #[must_use]
    pub fn of(event: &AuditEvent) -> Self {
        let by_kind = match event.event_type() {
            EventType::SecurityAlert | EventType::EventPolicyViolation => Self::Critical,
            EventType::ConfigurationChange => Self::Notice,
            _ => Self::Informational,
        };
        let by_outcome = match event.outcome() {
            Outcome::Denied => Self::Warning,
            Outcome::Failure => Self::Error,
            _ => Self::Informational,
        };
        let by_risk = match event.risk_score {
            risk if risk >= 0.8 => Self::Error,
            risk if risk >= 0.5 => Self::Warning,
            _ => Self::Informational,
        };
        by_kind.max(by_outcome).max(by_risk)
    }

    /// Returns the number of RFC 5424 §6.2.1 (0 emergency to 7 debug).
    #[must_use]
    pub fn syslog(self) -> u8 {
        match self {
            Self::Informational => 6,
            Self::Notice => 5,
            Self::Warning => 4,
            Self::Error => 3,
            Self::Critical => 2,
        }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// Which events a sink takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Only these types; all if there are none.
    pub(crate) kinds: Vec<EventType>,
    /// Only these tenants; all if there are none.
    pub(crate) tenants: Vec<TenantId>,
    /// Nothing below.
    pub(crate) least: Severity,
    /// Nothing before.
    pub(crate) since: Option<Timestamp>,
}

impl Filter {
    /// Tells whether any event of the tenant can pass.
    pub(crate) fn takes(&self, tenant: TenantId) -> bool {
        self.tenants.is_empty() || self.tenants.contains(&tenant)
    }

    pub(crate) fn passes(&self, event: &AuditEvent) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&event.event_type()))
            && self.since.is_none_or(|since| event.timestamp_ms >= since.0)
            && Severity::of(event) >= self.least
    }
}

/// Reads the name of an event type: `TOOL_INVOCATION`, or `tool-invocation`.
pub(crate) fn event_type(text: &str) -> Option<EventType> {
    let name = text.to_uppercase().replace('-', "_");
    EventType::from_str_name(&name).filter(|kind| *kind != EventType::Unspecified)
}

/// Reads a tenant's id.
pub(crate) fn tenant(text: &str) -> Option<TenantId> {
    TenantId::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventType, outcome: Outcome, risk_score: f64) -> AuditEvent {
        AuditEvent {
            event_type: kind.into(),
            outcome: outcome.into(),
            risk_score,
            timestamp_ms: 1_000,
            ..AuditEvent::default()
        }
    }

    #[test]
    fn the_gravest_of_kind_outcome_and_risk_counts() {
        use Outcome::{Denied, Failure, Success};
        for (kind, outcome, risk, severity) in [
            (EventType::ToolInvocation, Success, 0.0, Severity::Informational),
            (EventType::ConfigurationChange, Success, 0.0, Severity::Notice),
            (EventType::ToolInvocation, Denied, 0.0, Severity::Warning),
            (EventType::ToolInvocation, Success, 0.5, Severity::Warning),
            (EventType::ToolInvocation, Denied, 0.9, Severity::Error),
            (EventType::SystemEvent, Failure, 0.0, Severity::Error),
            (EventType::SecurityAlert, Success, 0.0, Severity::Critical),
            (EventType::ToolInvocation, Success, f64::NAN, Severity::Informational),
        ] {
            assert_eq!(Severity::of(&event(kind, outcome, risk)), severity, "{kind:?} {outcome:?} {risk}");
        }
    }

    #[test]
    fn every_condition_of_a_filter_holds() {
        let denied = event(EventType::ToolInvocation, Outcome::Denied, 0.0);
        let passes = |filter: Filter| filter.passes(&denied);
        assert!(passes(Filter::default()));
        assert!(passes(Filter { kinds: vec![EventType::ToolInvocation], ..Filter::default() }));
        assert!(!passes(Filter { kinds: vec![EventType::Authentication], ..Filter::default() }));
        assert!(passes(Filter { least: Severity::Warning, ..Filter::default() }));
        assert!(!passes(Filter { least: Severity::Error, ..Filter::default() }));
        assert!(passes(Filter { since: Some(Timestamp(1_000)), ..Filter::default() }));
        assert!(!passes(Filter { since: Some(Timestamp(1_001)), ..Filter::default() }));
        let one = TenantId::from_bytes([1; 16]);
        assert!(Filter::default().takes(one));
        assert!(!Filter { tenants: vec![TenantId::PLATFORM], ..Filter::default() }.takes(one));
    }

    #[test]
    fn types_are_read_in_both_spellings() {
        assert_eq!(event_type("TOOL_INVOCATION"), Some(EventType::ToolInvocation));
        assert_eq!(event_type("tool-invocation"), Some(EventType::ToolInvocation));
        assert_eq!(event_type("EVENT_TYPE_UNSPECIFIED"), None);
        assert_eq!(event_type("nothing"), None);
    }
}
