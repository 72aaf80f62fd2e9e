//! Open Cybersecurity Schema Framework, version 1.8.0 (<https://schema.ocsf.io/1.8.0>): each event becomes one of eight classes.
//! What the class has no attribute for is in `unmapped`, so that nothing is lost.

use aesp_proto::v1::{AuditEvent, EventType, Outcome};
use serde_json::{Map, Value, json};

use crate::{Severity, names};

/// The version of the schema.
pub const VERSION: &str = "1.8.0";
const OTHER: u32 = 99;

/// A class of the schema, with what happened in its terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    uid: u32,
    name: &'static str,
    activity: u32,
}

const fn class(uid: u32, name: &'static str, activity: u32) -> Class {
    Class { uid, name, activity }
}

const DETECTION_FINDING: u32 = 2004;
const ACCOUNT_CHANGE: u32 = 3001;
const AUTHENTICATION: u32 = 3002;
const AUTHORIZE_SESSION: u32 = 3003;
const ENTITY_MANAGEMENT: u32 = 3004;
const USER_ACCESS: u32 = 3005;
const APPLICATION_LIFECYCLE: u32 = 6002;
const API_ACTIVITY: u32 = 6003;

impl Class {
    fn of(event: &AuditEvent) -> Self {
        let (object, verb) = event.action.split_once('.').unwrap_or(("", &event.action));
        match event.event_type() {
            EventType::Authentication => class(AUTHENTICATION, "Authentication", logon(verb)),
            EventType::SessionCreated => class(AUTHORIZE_SESSION, "Authorize Session", 1),
            EventType::SessionDestroyed => class(AUTHENTICATION, "Authentication", 2),
            EventType::EventPolicyViolation | EventType::SecurityAlert => {
                class(DETECTION_FINDING, "Detection Finding", 1)
            }
            EventType::SystemEvent => class(APPLICATION_LIFECYCLE, "Application Lifecycle", lifecycle(verb)),
            EventType::DataAccess => class(API_ACTIVITY, "API Activity", 2),
            EventType::Authorization | EventType::ToolInvocation | EventType::Unspecified => {
                class(API_ACTIVITY, "API Activity", OTHER)
            }
            EventType::ConfigurationChange => match object {
                "principal" => class(ACCOUNT_CHANGE, "Account Change", account(verb)),
                "role" if verb == "assign" => class(USER_ACCESS, "User Access Management", 3),
                "role" if verb == "revoke" => class(USER_ACCESS, "User Access Management", 4),
                _ => class(ENTITY_MANAGEMENT, "Entity Management", entity(verb)),
            },
        }
    }

    fn category(self) -> (u32, &'static str) {
        match self.uid / 1_000 {
            2 => (2, "Findings"),
            3 => (3, "Identity & Access Management"),
            _ => (6, "Application Activity"),
        }
    }
}

fn logon(verb: &str) -> u32 {
    match verb {
        "login" => 1,
        "revoke" => 2,
        "refresh" => 3,
        _ => OTHER,
    }
}

fn lifecycle(verb: &str) -> u32 {
    match verb {
        "start" => 3,
        "stop" => 4,
        "restart" => 5,
        _ => OTHER,
    }
}

fn account(verb: &str) -> u32 {
    match verb {
        "create" => 1,
        "revoke" => 5,
        "delete" => 6,
        _ => OTHER,
    }
}

fn entity(verb: &str) -> u32 {
    match verb {
        "create" => 1,
        "update" | "write" => 3,
        "delete" => 4,
        "activate" => 10,
        "retire" => 11,
        "suspend" => 12,
        "resume" => 13,
        _ => OTHER,
    }
}

/// Returns the event as an object of the schema.
#[must_use]
pub fn event(event: &AuditEvent) -> Value {
    let class = Class::of(event);
    let (category, category_name) = class.category();
    let severity = Severity::of(event);
    let (status_id, status) = status(event, class);
    let mut out = json!({
        "class_uid": class.uid,
        "class_name": class.name,
        "category_uid": category,
        "category_name": category_name,
        "activity_id": class.activity,
        // The schema's name of an activity is for its own numbers; the action says more.
        "activity_name": event.action,
        "type_uid": class.uid * 100 + class.activity,
        "time": event.timestamp_ms,
        "severity_id": severity.ocsf(),
        "severity": format!("{severity:?}"),
        "status_id": status_id,
        "status": status,
        "count": event.count.max(1),
        "message": format!("{} {}", event.action, names::outcome(event)),
        "metadata": {
            "version": VERSION,
            "product": { "name": names::PRODUCT, "vendor_name": names::VENDOR, "version": names::VERSION },
            "uid": event.event_id,
            "log_name": "audit",
            "event_code": names::kind(event),
        },
    });
    let fields = out.as_object_mut().expect("is made as one");
    let metadata = fields.get_mut("metadata").and_then(Value::as_object_mut).expect("is made as one");
    put(metadata, "tenant_uid", &event.tenant_id);
    put(metadata, "correlation_uid", &event.correlation_id);
    put(fields, "status_detail", &event.reason);
    particulars(fields, event, class);
    fields.insert("unmapped".into(), unmapped(event));
    out
}

fn status(event: &AuditEvent, class: Class) -> (u32, &'static str) {
    // A finding's status is that of its handling.
    if class.uid == DETECTION_FINDING {
        return (1, "New");
    }
    match event.outcome() {
        Outcome::Success => (1, "Success"),
        Outcome::Failure | Outcome::Denied => (2, "Failure"),
        Outcome::Unspecified => (0, "Unknown"),
    }
}

/// Adds what the class asks for beyond what all have.
fn particulars(fields: &mut Map<String, Value>, event: &AuditEvent, class: Class) {
    let user = user(event);
    let mut actor = json!({ "user": user });
    if !event.session_id.is_empty() {
        actor["session"] = json!({ "uid": event.session_id });
    }
    let named = if event.resource.is_empty() { &event.action } else { &event.resource };
    if class.uid != APPLICATION_LIFECYCLE && class.uid != DETECTION_FINDING {
        fields.insert("actor".into(), actor);
        fields.insert("src_endpoint".into(), endpoint(&event.source_ip));
    }
    match class.uid {
        AUTHENTICATION => {
            fields.insert("user".into(), user);
            fields.insert("service".into(), json!({ "name": names::PRODUCT, "version": names::VERSION }));
        }
        AUTHORIZE_SESSION => {
            fields.insert("user".into(), user);
            fields.insert("privileges".into(), json!([event.action]));
            if !event.session_id.is_empty() {
                fields.insert("session".into(), json!({ "uid": event.session_id }));
            }
        }
        // Whose account it is stands in the resource: `principal:…`.
        ACCOUNT_CHANGE => drop(fields.insert("user".into(), json!({ "uid": account_of(named) }))),
        USER_ACCESS => {
            fields.insert("user".into(), json!({ "uid": account_of(named) }));
            fields.insert("privileges".into(), json!([event.action]));
        }
        ENTITY_MANAGEMENT => drop(fields.insert("entity".into(), json!({ "name": named }))),
        DETECTION_FINDING => {
            let mut info = json!({ "uid": event.event_id, "title": event.action });
            if !event.reason.is_empty() {
                info["desc"] = event.reason.clone().into();
            }
            fields.insert("finding_info".into(), info);
            fields.insert("resources".into(), json!([{ "name": named }]));
        }
        APPLICATION_LIFECYCLE => {
            fields.insert("app".into(), json!({ "name": names::PRODUCT }));
        }
        _ => {
            fields.insert(
                "api".into(),
                json!({ "operation": event.action, "service": { "name": names::PRODUCT } }),
            );
            fields.insert("resources".into(), json!([{ "name": named }]));
        }
    }
}

/// Returns whose account a resource names: `principal:ID`, `principal:ID role:NAME`.
fn account_of(resource: &str) -> &str {
    let account = resource.strip_prefix("principal:").unwrap_or(resource);
    account.split(' ').next().unwrap_or(account)
}

fn user(event: &AuditEvent) -> Value {
    if event.principal_id.is_empty() {
        json!({ "name": "unknown" })
    } else {
        json!({ "uid": event.principal_id })
    }
}

fn endpoint(source: &str) -> Value {
    match source {
        "" => json!({ "name": "unknown" }),
        address if address.parse::<std::net::IpAddr>().is_ok() => json!({ "ip": address }),
        // A network, of refusals that are counted together.
        network => json!({ "name": network }),
    }
}

/// Returns all that the classes have no attribute for, and the outcome as it was recorded.
fn unmapped(event: &AuditEvent) -> Value {
    let mut out = Map::new();
    let texts = [
        ("outcome", names::outcome(event)),
        ("principal_id", event.principal_id.as_str()),
        ("on_behalf_of", &event.on_behalf_of),
        ("session_id", &event.session_id),
        ("resource", &event.resource),
        ("source_ip", &event.source_ip),
        ("user_agent", &event.user_agent),
        ("invocation_id", &event.invocation_id),
        ("decision_id", &event.decision_id),
    ];
    texts.into_iter().for_each(|(name, text)| put(&mut out, name, text));
    if event.revision > 0 {
        out.insert("revision".into(), event.revision.into());
    }
    if event.external {
        out.insert("external".into(), true.into());
    }
    if event.risk_score.is_finite() && event.risk_score != 0.0 {
        out.insert("risk_score".into(), event.risk_score.into());
    }
    if !event.policy_violations.is_empty() {
        out.insert("policy_violations".into(), event.policy_violations.clone().into());
    }
    if !event.metadata.is_empty() {
        let sorted: std::collections::BTreeMap<_, _> = event.metadata.iter().collect();
        out.insert("metadata".into(), json!(sorted));
    }
    Value::Object(out)
}

fn put(fields: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        fields.insert(name.into(), text.into());
    }
}
