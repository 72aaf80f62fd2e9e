//! RFC 4180, UTF-8, lines that end in CR LF, every cell in quotes.
//!
//! A cell that begins with `=`, `+`, `-`, `@`, tab, CR or `'` gets a `'` before it: spreadsheets would run the first six as a formula.
//! Taking one leading `'` away gives back what was recorded.

use aesp_proto::v1::AuditEvent;

use crate::names;

/// The columns, in their order.
pub const COLUMNS: [&str; 23] = [
    "time",
    "timestamp_ms",
    "event_id",
    "tenant_id",
    "event_type",
    "action",
    "outcome",
    "principal_id",
    "on_behalf_of",
    "session_id",
    "resource",
    "source_ip",
    "user_agent",
    "reason",
    "correlation_id",
    "invocation_id",
    "decision_id",
    "revision",
    "count",
    "external",
    "risk_score",
    "policy_violations",
    "metadata",
];

/// Appends the line with the names of the columns.
pub fn head(out: &mut Vec<u8>) {
    line(out, COLUMNS.iter().copied());
}

/// Appends the line of an event. Violated policies are a JSON array, the metadata is a JSON object; both are empty without any.
pub fn event(out: &mut Vec<u8>, event: &AuditEvent) {
    let policies = match event.policy_violations.as_slice() {
        [] => String::new(),
        policies => serde_json::to_string(policies).unwrap_or_default(),
    };
    let cells: [&str; COLUMNS.len()] = [
        &names::time(event),
        &event.timestamp_ms.to_string(),
        &event.event_id,
        &event.tenant_id,
        names::kind(event),
        &event.action,
        names::outcome(event),
        &event.principal_id,
        &event.on_behalf_of,
        &event.session_id,
        &event.resource,
        &event.source_ip,
        &event.user_agent,
        &event.reason,
        &event.correlation_id,
        &event.invocation_id,
        &event.decision_id,
        &event.revision.to_string(),
        &event.count.max(1).to_string(),
        if event.external { "true" } else { "false" },
        &event.risk_score.to_string(),
        &policies,
        &names::metadata(event),
    ];
    line(out, cells.into_iter());
}

fn line<'a>(out: &mut Vec<u8>, cells: impl Iterator<Item = &'a str>) {
    for (number, cell) in cells.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.push(b'"');
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) && cell.parse::<i64>().is_err() {
            out.push(b'\'');
        }
        out.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads RFC 4180 with every cell in quotes.
    fn read(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut rest) = (Vec::new(), Vec::new(), text);
        while let Some(quoted) = rest.strip_prefix('"') {
            let (mut cell, mut inside) = (String::new(), quoted);
            loop {
                let end = inside.find('"').expect("a cell ends");
                cell.push_str(&inside[..end]);
                inside = &inside[end + 1..];
                match inside.strip_prefix('"') {
                    Some(more) => {
                        cell.push('"');
                        inside = more;
                    }
                    None => break,
                }
            }
            row.push(cell.strip_prefix('\'').map_or_else(|| cell.clone(), str::to_owned));
            match inside.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = inside.strip_prefix("\r\n").expect("a line ends");
                    rows.push(std::mem::take(&mut row));
                }
            }
        }
        assert!(rest.is_empty() && row.is_empty(), "{rest}");
        rows
    }

    proptest! {
        #[test]
        fn every_text_comes_back(texts in prop::collection::vec("(?s).{0,12}|['=+@\"\r\n,\t-]{1,4}", 3)) {
            let recorded = AuditEvent {
                resource: texts[0].clone(),
                reason: texts[1].clone(),
                user_agent: texts[2].clone(),
                ..AuditEvent::default()
            };
            let mut out = Vec::new();
            head(&mut out);
            event(&mut out, &recorded);
            let rows = read(std::str::from_utf8(&out).unwrap());
            prop_assert_eq!(rows.len(), 2);
            prop_assert_eq!(rows[0].len(), COLUMNS.len());
            let cell = |name: &str| &rows[1][COLUMNS.iter().position(|column| *column == name).unwrap()];
            // A text that is a negative number is left as it is.
            for (name, text) in [("resource", &texts[0]), ("reason", &texts[1]), ("user_agent", &texts[2])] {
                prop_assert_eq!(cell(name), text);
            }
        }
    }

    #[test]
    fn a_formula_is_text() {
        let mut out = Vec::new();
        event(
            &mut out,
            &AuditEvent { reason: "=HYPERLINK(\"x\")".into(), timestamp_ms: -5, ..AuditEvent::default() },
        );
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains(",\"'=HYPERLINK(\"\"x\"\")\",") && out.contains(",\"-5\","), "{out}");
    }
}
