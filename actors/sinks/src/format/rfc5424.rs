use aesp_proto::v1::AuditEvent;
use bytes::Bytes;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::{texts, value};
use crate::Severity;

/// Facility 13 of RFC 5424, "log audit".
const FACILITY: u8 = 13;
/// The longest value of a parameter; the message holds the whole.
const VALUE_BYTES: usize = 1024;
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Returns the event as an RFC 5424 message: the action as MSGID, the searchable fields as structured data `audit@32473`, and the whole event
/// as JSON in the message, in UTF-8 behind a byte order mark.
///
/// Source: RFC 5424 §6; 32473 is the number that RFC 5612 sets aside for those without one of their own.
pub(crate) fn rfc5424(event: &AuditEvent, node: &str) -> Bytes {
    let priority = FACILITY * 8 + Severity::of(event).syslog();
    let time = timestamp(event.timestamp_ms);
    let (host, message) = (name(node, 255), name(&event.action, 32));
    let mut out = format!("<{priority}>1 {time} {host} aesp - {message} [audit@32473 event_id=\"");
    escape(&event.event_id, &mut out);
    out.push('"');
    for (key, text) in texts(event) {
        out.push_str(&format!(" {key}=\""));
        escape(&text[..text.floor_char_boundary(VALUE_BYTES)], &mut out);
        out.push('"');
    }
    out.push_str("] \u{feff}");
    out.push_str(&value(event).to_string());
    out.into()
}

fn timestamp(millis: i64) -> String {
    let nanos = i128::from(millis) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|time| time.format(TIME).ok()).unwrap_or_else(|| "-".into())
}

/// Returns printable ASCII without spaces, or the nil value.
fn name(text: &str, longest: usize) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let name: String = text.chars().take(longest).map(printable).collect();
    if name.is_empty() { "-".into() } else { name }
}

/// RFC 5424 §6.3.3: quotation marks, backslashes and closing brackets. Line ends go, because some receivers split at them.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' | ']' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use aesp_proto::v1::{EventType, Outcome};

    use super::*;

    #[test]
    fn a_message_is_as_the_rfc_has_it() {
        let event = AuditEvent {
            event_id: "e1".into(),
            timestamp_ms: 1_500,
            event_type: EventType::ToolInvocation.into(),
            outcome: Outcome::Denied.into(),
            action: "tool.invoke".into(),
            reason: "a \"b\" \\ ] \r\n <34>1".into(),
            ..AuditEvent::default()
        };
        let message = String::from_utf8(rfc5424(&event, "node 1").to_vec()).unwrap();
        let expected = r#"<108>1 1970-01-01T00:00:01.500Z node_1 aesp - tool.invoke [audit@32473 event_id="e1" event_type="TOOL_INVOCATION" action="tool.invoke" outcome="DENIED" reason="a \"b\" \\ \]    <34>1"] "#;
        let (head, json) = message.split_once('\u{feff}').unwrap();
        assert_eq!(head, expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(json).unwrap(), value(&event));
        assert!(!message.contains('\n'), "some receivers split at line feeds");
    }

    #[test]
    fn times_that_cant_be_written_and_no_action_are_nil() {
        let event = AuditEvent { timestamp_ms: i64::MAX, ..AuditEvent::default() };
        let message = String::from_utf8(rfc5424(&event, "").to_vec()).unwrap();
        assert!(message.starts_with("<110>1 - - aesp - - [audit@32473 "), "{message}");
    }
}
