//! RFC 5424: facility "log audit" (13), the type as MSGID, all fields as structured data, and a sentence for people.
//!
//! In values `"`, `\` and `]` are escaped (§6.3.3). Control characters, which receivers treat differently and which end a line, are
//! written as `\u` with four hexadecimal digits.

use std::fmt::Write as _;

use aesp_proto::v1::AuditEvent;

use crate::{Severity, names};

const FACILITY: u8 = 13;
/// The structured data's name. 32473 is the number that RFC 5612 sets aside for examples: the project has none of its own.
const SD_ID: &str = "aesp@32473";
const HOSTNAME_CHARS: usize = 255;

/// Returns the message of an event, without a frame around it. `hostname` is that of the sender; empty for none.
#[must_use]
pub fn event(event: &AuditEvent, hostname: &str) -> String {
    let priority = FACILITY * 8 + Severity::of(event).syslog();
    let hostname: String = hostname.chars().filter(char::is_ascii_graphic).take(HOSTNAME_CHARS).collect();
    let hostname = if hostname.is_empty() { "-" } else { &hostname };
    let mut out =
        format!("<{priority}>1 {} {hostname} aesp - {} [{SD_ID}", names::time(event), names::kind(event));
    let fields = [
        ("event_id", event.event_id.as_str()),
        ("tenant_id", &event.tenant_id),
        ("action", &event.action),
        ("outcome", names::outcome(event)),
        ("principal_id", &event.principal_id),
        ("on_behalf_of", &event.on_behalf_of),
        ("session_id", &event.session_id),
        ("resource", &event.resource),
        ("source_ip", &event.source_ip),
        ("user_agent", &event.user_agent),
        ("reason", &event.reason),
        ("correlation_id", &event.correlation_id),
        ("invocation_id", &event.invocation_id),
        ("decision_id", &event.decision_id),
        ("revision", &event.revision.to_string()),
        ("count", &event.count.max(1).to_string()),
        ("external", if event.external { "true" } else { "" }),
        ("risk_score", &event.risk_score.to_string()),
        ("policy_violations", &event.policy_violations.join(", ")),
        ("metadata", &names::metadata(event)),
    ];
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        // Writing into a string does not fail.
        let _ = write!(out, " {name}=\"");
        printable(value, &mut |c| {
            if matches!(c, '"' | '\\' | ']') {
                out.push('\\');
            }
            out.push(c);
        });
        out.push('"');
    }
    // The mark says that UTF-8 follows (§6.4).
    out.push_str("] \u{feff}");
    let told = [event.action.as_str(), names::outcome(event), &event.resource, &event.reason];
    let told = told.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
    printable(&told, &mut |c| out.push(c));
    out
}

fn printable(text: &str, each: &mut dyn FnMut(char)) {
    for c in text.chars() {
        if c.is_control() {
            format!("\\u{:04x}", u32::from(c)).chars().for_each(&mut *each);
        } else {
            each(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Reads the structured data as §6.3 says.
    fn structured(message: &str) -> BTreeMap<String, String> {
        let start = message.find("[aesp@").unwrap();
        let mut rest = message[start..].strip_prefix("[aesp@32473").unwrap();
        let mut out = BTreeMap::new();
        while let Some(more) = rest.strip_prefix(' ') {
            let (name, more) = more.split_once("=\"").unwrap();
            assert!(name.len() <= 32 && name.chars().all(|c| c.is_ascii_graphic()));
            let (mut value, mut chars) = (String::new(), more.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(chars.next().unwrap().1),
                    (_, ']') => panic!("an unescaped bracket"),
                    (_, c) => value.push(c),
                }
            };
            rest = &more[end + 1..];
            out.insert(name.to_owned(), value);
        }
        assert!(rest.starts_with("] \u{feff}"), "{rest}");
        out
    }

    proptest! {
        #[test]
        fn every_text_comes_back(reason in "(?s).{1,20}|[\\\\\"\\] =]{1,12}", hostname in "(?s).{0,8}") {
            let recorded = AuditEvent { reason: reason.clone(), action: "a".into(), ..AuditEvent::default() };
            let message = event(&recorded, &hostname);
            prop_assert!(!message.chars().any(char::is_control));
            let mut expected = String::new();
            printable(&reason, &mut |c| expected.push(c));
            prop_assert_eq!(&structured(&message)["reason"], &expected);
            let head: Vec<&str> = message.splitn(7, ' ').collect();
            prop_assert_eq!((head[0], head[3], head[4]), ("<110>1", "aesp", "-"));
        }
    }

    #[test]
    fn priority_and_type_tell_what_it_is() {
        use aesp_proto::v1::{EventType, Outcome};
        let denied = AuditEvent {
            timestamp_ms: 1_700_000_000_000,
            event_type: EventType::Authorization.into(),
            outcome: Outcome::Denied.into(),
            action: "role.create".into(),
            ..AuditEvent::default()
        };
        let message = event(&denied, "n1");
        assert!(
            message.starts_with("<108>1 2023-11-14T22:13:20.000Z n1 aesp - AUTHORIZATION [aesp@32473 "),
            "{message}"
        );
        assert!(message.ends_with("] \u{feff}role.create DENIED"), "{message}");
    }
}
