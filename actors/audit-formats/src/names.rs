//! Names and texts that all formats share.

use std::collections::BTreeMap;

use aesp_proto::v1::AuditEvent;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

pub(crate) const VENDOR: &str = "AESP";
pub(crate) const PRODUCT: &str = "AESP Host";
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

const RFC3339_MS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Returns the type's name, for example `TOOL_INVOCATION`.
pub(crate) fn kind(event: &AuditEvent) -> &'static str {
    let name = event.event_type().as_str_name();
    name.strip_prefix("EVENT_").unwrap_or(name)
}

/// Returns `SUCCESS`, `FAILURE`, `DENIED` or `UNSPECIFIED`.
pub(crate) fn outcome(event: &AuditEvent) -> &'static str {
    let name = event.outcome().as_str_name();
    name.strip_prefix("OUTCOME_").unwrap_or(name)
}

/// Returns when it was, as RFC 3339 in UTC with milliseconds; the beginning of 1970 for what no calendar has.
pub(crate) fn time(event: &AuditEvent) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.timestamp_ms) * 1_000_000);
    let at = at.ok().filter(|at| (0..=9_999).contains(&at.year())).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(RFC3339_MS).unwrap_or_default()
}

/// Returns the metadata as a JSON object, sorted by name; empty without any.
pub(crate) fn metadata(event: &AuditEvent) -> String {
    if event.metadata.is_empty() {
        return String::new();
    }
    let sorted: BTreeMap<_, _> = event.metadata.iter().collect();
    serde_json::to_string(&sorted).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_form_whatever_they_are() {
        let at = |timestamp_ms| time(&AuditEvent { timestamp_ms, ..AuditEvent::default() });
        assert_eq!(at(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
        assert_eq!(at(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(at(i64::MAX), "1970-01-01T00:00:00.000Z");
    }
}
