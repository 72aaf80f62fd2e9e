//! Every type of event against the published schema, of which tests/ocsf.json is a part (made by scripts/ocsf-schema).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

use aesp_audit_formats::ocsf;
use aesp_proto::v1::{AuditEvent, EventType, Outcome};
use serde_json::{Value, json};

struct Schema(Value);

impl Schema {
    fn load() -> Self {
        Self(serde_json::from_str(include_str!("ocsf.json")).unwrap())
    }

    /// Returns what is wrong with an event; nothing if it is one of its class.
    fn faults(&self, event: &Value) -> Vec<String> {
        let class = &self.0["classes"][event["class_uid"].to_string()];
        if class.is_null() {
            return vec![format!("no class {}", event["class_uid"])];
        }
        let mut faults = self.object("", class, event);
        let uid = event["class_uid"].as_u64().unwrap();
        if event["category_uid"] != class["category_uid"] || event["class_name"] != class["name"] {
            faults.push("another category or name".into());
        }
        if event["type_uid"] != json!(uid * 100 + event["activity_id"].as_u64().unwrap()) {
            faults.push("another type".into());
        }
        faults
    }

    fn object(&self, path: &str, schema: &Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        let Some(fields) = value.as_object() else { return vec![format!("{path} is no object")] };
        let attributes = schema["attributes"].as_object().unwrap();
        for (name, about) in attributes {
            if about["requirement"] == "required" && !fields.contains_key(name) {
                faults.push(format!("{path}.{name} is missing"));
            }
        }
        let one_of = schema["at_least_one"].as_array().unwrap();
        if !one_of.is_empty() && !one_of.iter().any(|name| fields.contains_key(name.as_str().unwrap())) {
            faults.push(format!("{path} has none of {one_of:?}"));
        }
        for (name, field) in fields {
            let path = format!("{path}.{name}");
            match attributes.get(name) {
                None => faults.push(format!("{path} is not in the schema")),
                Some(about) if about["array"] == true => match field.as_array() {
                    None => faults.push(format!("{path} is no array")),
                    Some(items) => {
                        faults.extend(items.iter().flat_map(|item| self.field(&path, about, item)))
                    }
                },
                Some(about) => faults.extend(self.field(&path, about, field)),
            }
        }
        faults
    }

    fn field(&self, path: &str, about: &Value, field: &Value) -> Vec<String> {
        let wrong = |what: &str| vec![format!("{path} is no {what}: {field}")];
        // The numbers of class and category come with the class, and are compared there.
        let fixed = path.ends_with("class_uid") || path.ends_with("category_uid");
        if let Some(all) = about["enum"].as_array().filter(|_| !fixed)
            && !all.contains(&json!(field.to_string()))
        {
            return wrong("value of the list");
        }
        let is = match about["type"].as_str().unwrap() {
            "integer_t" | "long_t" | "timestamp_t" | "port_t" => field.is_i64() || field.is_u64(),
            "boolean_t" => field.is_boolean(),
            "ip_t" => field.as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()),
            kind if kind.ends_with("_t") => field.is_string(),
            "object" => field.is_object(),
            object => match self.0["objects"].get(object) {
                None => return wrong(&format!("known object {object}")),
                Some(schema) => return self.object(path, schema, field),
            },
        };
        if is { Vec::new() } else { wrong(about["type"].as_str().unwrap()) }
    }
}

fn event(kind: EventType, outcome: Outcome, action: &str) -> AuditEvent {
    AuditEvent {
        event_id: "evt_1".into(),
        timestamp_ms: 1_700_000_000_000,
        event_type: kind.into(),
        outcome: outcome.into(),
        action: action.into(),
        ..AuditEvent::default()
    }
}

fn full(mut event: AuditEvent) -> AuditEvent {
    event.principal_id = "prn_1".into();
    event.tenant_id = "ten_1".into();
    event.session_id = "ses_1".into();
    event.resource = "tool:echo@1.0.0".into();
    event.source_ip = "192.0.2.1".into();
    event.user_agent = "agent/1".into();
    event.reason = "because".into();
    event.correlation_id = "c".into();
    event.invocation_id = "i".into();
    event.decision_id = "dec_1".into();
    event.on_behalf_of = "prn_2".into();
    event.policy_violations = vec!["p".into()];
    event.risk_score = 0.95;
    event.count = 7;
    event.revision = 3;
    event.external = true;
    event.metadata.insert("node".into(), "n1".into());
    event
}

#[test]
fn every_type_is_what_the_schema_says() {
    let schema = Schema::load();
    let actions = [
        "tool.invoke",
        "role.create",
        "role.assign",
        "role.revoke",
        "principal.create",
        "principal.revoke",
        "principal.rotate_key",
        "contract.activate",
        "contract.retire",
        "tenant.suspend",
        "tenant.resume",
        "tenant.delete",
        "config.write",
        "authentication.login",
        "authentication.refresh",
        "authentication.revoke",
        "tls.handshake",
        "none",
        "store.restored",
        "",
    ];
    let kinds: Vec<EventType> = (0..).map_while(|number| EventType::try_from(number).ok()).collect();
    assert_eq!(kinds.len(), 11);
    for kind in kinds {
        for outcome in [Outcome::Unspecified, Outcome::Success, Outcome::Failure, Outcome::Denied] {
            for action in actions {
                let bare = event(kind, outcome, action);
                for recorded in [
                    full(bare.clone()),
                    AuditEvent { source_ip: "192.0.2.0/24".into(), ..bare.clone() },
                    bare,
                ] {
                    let faults = schema.faults(&ocsf::event(&recorded));
                    assert!(faults.is_empty(), "{kind:?} {outcome:?} {action}: {faults:?}");
                }
            }
        }
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let schema = Schema::load();
    let good = ocsf::event(&full(event(EventType::ToolInvocation, Outcome::Success, "tool.invoke")));
    for (field, value) in [
        ("actor", Value::Null),
        ("severity_id", json!(7)),
        ("time", json!("today")),
        ("invented", json!(1)),
        ("src_endpoint", json!({ "ip": "nowhere" })),
        ("metadata", json!({ "version": "1" })),
        ("class_uid", json!(1)),
        ("type_uid", json!(1)),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(!schema.faults(&bad).is_empty(), "{field}");
    }
}

#[test]
fn types_become_their_classes() {
    let class =
        |kind, action| ocsf::event(&event(kind, Outcome::Success, action))["class_uid"].as_u64().unwrap();
    assert_eq!(class(EventType::Authentication, "authentication.login"), 3002);
    assert_eq!(class(EventType::SessionCreated, "session.create"), 3003);
    assert_eq!(class(EventType::SessionDestroyed, "session.destroy"), 3002);
    assert_eq!(class(EventType::Authorization, "role.create"), 6003);
    assert_eq!(class(EventType::ToolInvocation, "tool.invoke"), 6003);
    assert_eq!(class(EventType::DataAccess, "audit.query"), 6003);
    assert_eq!(class(EventType::ConfigurationChange, "principal.create"), 3001);
    assert_eq!(class(EventType::ConfigurationChange, "role.assign"), 3005);
    assert_eq!(class(EventType::ConfigurationChange, "contract.activate"), 3004);
    assert_eq!(class(EventType::SecurityAlert, "x"), 2004);
    assert_eq!(class(EventType::EventPolicyViolation, "x"), 2004);
    assert_eq!(class(EventType::SystemEvent, "backup.drill"), 6002);
}
