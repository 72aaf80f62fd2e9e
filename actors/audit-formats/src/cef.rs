//! ArcSight Common Event Format, version 0: one line an event.
//!
//! Source: "Micro Focus Security ArcSight Common Event Format", revision 25: in the header `\` and `|` are escaped, in values `\`, `=`
//! and line ends.

use std::fmt::Write as _;

use aesp_proto::v1::AuditEvent;

use crate::{Severity, names};

/// Returns the line of an event, without its end.
#[must_use]
pub fn event(event: &AuditEvent) -> String {
    let mut out = String::from("CEF:0");
    let severity = Severity::of(event).cef().to_string();
    let name = format!("{} {}", event.action, names::outcome(event));
    for part in [names::VENDOR, names::PRODUCT, names::VERSION, names::kind(event), &name, &severity] {
        out.push('|');
        header(&mut out, part);
    }
    out.push('|');
    let mut pairs = Pairs { out, first: true };
    pairs.put("rt", &event.timestamp_ms.to_string());
    pairs.put("externalId", &event.event_id);
    pairs.put("cat", names::kind(event));
    pairs.put("act", &event.action);
    pairs.put("outcome", names::outcome(event));
    pairs.put("suid", &event.principal_id);
    pairs.put("duid", &event.on_behalf_of);
    // A network is no address.
    let is_address = event.source_ip.parse::<std::net::IpAddr>().is_ok();
    pairs.put(if is_address { "src" } else { "shost" }, &event.source_ip);
    pairs.put("requestClientApplication", &event.user_agent);
    pairs.put("reason", &event.reason);
    pairs.put("cnt", &event.count.max(1).to_string());
    let labelled = [
        ("cs1", "tenant", event.tenant_id.as_str()),
        ("cs2", "session", &event.session_id),
        ("cs3", "correlation", &event.correlation_id),
        ("cs4", "invocation", &event.invocation_id),
        ("cs5", "policyViolations", &event.policy_violations.join(", ")),
        ("cs6", "resource", &event.resource),
        ("flexString1", "metadata", &names::metadata(event)),
        ("flexString2", "decision", &event.decision_id),
        ("cn1", "revision", &event.revision.to_string()),
        ("cfp1", "risk", &event.risk_score.to_string()),
    ];
    for (key, label, value) in labelled {
        if !value.is_empty() {
            pairs.put(&format!("{key}Label"), label);
            pairs.put(key, value);
        }
    }
    if event.external {
        pairs.put("deviceFacility", "external");
    }
    pairs.out
}

fn header(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' | '|' => out.extend(['\\', c]),
            // A header has no line ends.
            '\r' | '\n' => out.push(' '),
            c => out.push(c),
        }
    }
}

struct Pairs {
    out: String,
    first: bool,
}

impl Pairs {
    fn put(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let space = if std::mem::take(&mut self.first) { "" } else { " " };
        // Writing into a string does not fail.
        let _ = write!(self.out, "{space}{key}=");
        for c in value.chars() {
            match c {
                '\\' | '=' => self.out.extend(['\\', c]),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                c => self.out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Splits the header, and takes its escapes away.
    fn read(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
        let (mut parts, mut part, mut rest) = (Vec::new(), String::new(), line);
        while parts.len() < 7 {
            let c = rest.chars().next().expect("the header has seven parts");
            rest = &rest[c.len_utf8()..];
            match c {
                '|' => parts.push(std::mem::take(&mut part)),
                '\\' => {
                    let escaped = rest.chars().next().unwrap();
                    rest = &rest[escaped.len_utf8()..];
                    part.push(escaped);
                }
                c => part.push(c),
            }
        }
        (parts, pairs(rest))
    }

    /// A key is what stands between a space and an unescaped `=`.
    fn pairs(text: &str) -> BTreeMap<String, String> {
        let (mut out, mut key, mut value) = (BTreeMap::new(), String::new(), String::new());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    c => c,
                }),
                '=' => {
                    let (before, next) = match value.rsplit_once(' ') {
                        Some((before, next)) => (before.to_owned(), next.to_owned()),
                        None => (String::new(), value.clone()),
                    };
                    if !key.is_empty() {
                        out.insert(key, before);
                    }
                    (key, value) = (next, String::new());
                }
                c => value.push(c),
            }
        }
        out.insert(key, value);
        out
    }

    proptest! {
        #[test]
        fn every_text_comes_back(reason in "(?s).{1,20}|[\\\\|= \r\nab]{1,12}", action in "[a-z.|\\\\]{1,8}") {
            let recorded = AuditEvent { reason: reason.clone(), action: action.clone(), event_id: "evt_1".into(), ..AuditEvent::default() };
            let line = event(&recorded);
            prop_assert!(!line.contains(['\r', '\n']));
            let (head, pairs) = read(&line);
            prop_assert_eq!(&head[..3], ["CEF:0", "AESP", "AESP Host"]);
            prop_assert_eq!(&head[5], &format!("{action} UNSPECIFIED"));
            prop_assert_eq!(&pairs["reason"], &reason);
            prop_assert_eq!((pairs["act"].as_str(), pairs["externalId"].as_str()), (action.as_str(), "evt_1"));
        }
    }

    #[test]
    fn addresses_and_networks_have_keys_of_their_own() {
        let of =
            |source_ip: &str| event(&AuditEvent { source_ip: source_ip.into(), ..AuditEvent::default() });
        assert!(
            of("192.0.2.1").contains(" src=192.0.2.1 ")
                && of("192.0.2.0/24").contains(" shost=192.0.2.0/24 ")
        );
    }
}
