use std::str::FromStr;

use aesp_audit_formats::Severity;
use aesp_proto::{
    TenantId, Timestamp,
    v1::{AuditEvent, EventType},
};

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
    use aesp_proto::v1::Outcome;

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
    fn every_condition_of_a_filter_holds() {
        let denied = event(EventType::ToolInvocation, Outcome::Denied, 0.0);
        let passes = |filter: Filter| filter.passes(&denied);
        assert!(passes(Filter::default()));
        assert!(passes(Filter { kinds: vec![EventType::ToolInvocation], ..Filter::default() }));
        assert!(!passes(Filter { kinds: vec![EventType::Authentication], ..Filter::default() }));
        assert!(passes(Filter { least: Severity::Medium, ..Filter::default() }));
        assert!(!passes(Filter { least: Severity::High, ..Filter::default() }));
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
