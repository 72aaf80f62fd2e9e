//! An audit event in the formats that sinks take.

use std::collections::BTreeMap;

use aesp_audit_formats::Severity;
use aesp_proto::v1::{AuditEvent, EventType, Outcome};
use bytes::Bytes;
use serde_json::{Map, Value};

/// Returns the event as a JSON object; what is empty is left out. The same event always gives the same bytes.
pub(crate) fn value(event: &AuditEvent) -> Value {
    let mut out = Map::new();
    out.insert("event_id".into(), event.event_id.clone().into());
    out.insert("timestamp_ms".into(), event.timestamp_ms.into());
    out.insert("severity".into(), Severity::of(event).name().into());
    for (name, text) in texts(event) {
        out.insert(name.into(), text.into());
    }
    if !event.metadata.is_empty() {
        let sorted: BTreeMap<_, _> = event.metadata.iter().collect();
        let sorted = sorted.into_iter().map(|(name, text)| (name.clone(), text.clone().into()));
        out.insert("metadata".into(), Value::Object(sorted.collect()));
    }
    if !event.policy_violations.is_empty() {
        out.insert("policy_violations".into(), event.policy_violations.clone().into());
    }
    for (name, number) in [("revision", event.revision), ("count", event.count)] {
        if number > 0 {
            out.insert(name.into(), number.into());
        }
    }
    if event.external {
        out.insert("external".into(), true.into());
    }
    if event.risk_score != 0.0 {
        out.insert("risk_score".into(), event.risk_score.into());
    }
    Value::Object(out)
}

/// Returns [`value`] as one line without its line feed.
pub(crate) fn json(event: &AuditEvent) -> Bytes {
    value(event).to_string().into()
}

/// Returns the fields that are texts, by name; those that are empty are left out.
pub(crate) fn texts(event: &AuditEvent) -> Vec<(&'static str, String)> {
    let kind = EventType::try_from(event.event_type).unwrap_or_default().as_str_name();
    let outcome = Outcome::try_from(event.outcome).unwrap_or_default().as_str_name();
    let outcome = outcome.trim_start_matches("OUTCOME_");
    let all = [
        ("tenant_id", event.tenant_id.as_str()),
        ("event_type", kind),
        ("action", &event.action),
        ("outcome", outcome),
        ("principal_id", &event.principal_id),
        ("on_behalf_of", &event.on_behalf_of),
        ("session_id", &event.session_id),
        ("decision_id", &event.decision_id),
        ("resource", &event.resource),
        ("reason", &event.reason),
        ("source_ip", &event.source_ip),
        ("user_agent", &event.user_agent),
        ("correlation_id", &event.correlation_id),
        ("invocation_id", &event.invocation_id),
    ];
    let present = all.into_iter().filter(|(_, text)| !text.is_empty());
    present.map(|(name, text)| (name, text.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_left_out_and_the_order_is_fixed() {
        let mut event = AuditEvent {
            event_id: "e".into(),
            timestamp_ms: 7,
            event_type: EventType::ToolInvocation.into(),
            outcome: Outcome::Denied.into(),
            action: "tool.invoke".into(),
            ..AuditEvent::default()
        };
        event.metadata = [("b", "2"), ("a", "1"), ("c", "3")].map(|(k, v)| (k.into(), v.into())).into();
        let expected = r#"{"action":"tool.invoke","event_id":"e","event_type":"TOOL_INVOCATION","metadata":{"a":"1","b":"2","c":"3"},"outcome":"DENIED","severity":"medium","timestamp_ms":7}"#;
        let written: Value = serde_json::from_slice(&json(&event)).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(expected).unwrap());
        for _ in 0..10 {
            // A map that hashes has another order each time.
            event.metadata = event.metadata.clone().into_iter().collect();
            assert_eq!(serde_json::from_slice::<Value>(&json(&event)).unwrap(), written);
            assert_eq!(json(&event), json(&event.clone()));
        }
    }
}
