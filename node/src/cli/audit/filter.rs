use aesp_audit::TimeRange;
use aesp_proto::{Timestamp, v1};
use clap::{Args, ValueEnum};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::cli::failure::Failure;

/// Which events are wanted. Each flag may be repeated: then one of its values must fit; all flags must.
#[derive(Args, Debug)]
pub(crate) struct Filter {
    /// For example TOOL_INVOCATION.
    #[arg(long = "type", value_parser = event_type, value_name = "TYPE")]
    types: Vec<v1::EventType>,
    /// Who did it, or on whose behalf; an id.
    #[arg(long, value_name = "ID")]
    principal: Vec<String>,
    #[arg(long, value_name = "ID")]
    session: Vec<String>,
    #[arg(long, value_enum)]
    outcome: Vec<Outcome>,
    /// For example tenant.create.
    #[arg(long)]
    action: Vec<String>,
    /// What it was done to, exactly as recorded.
    #[arg(long)]
    resource: Vec<String>,
    /// A tool's name, in any version.
    #[arg(long, value_name = "NAME")]
    tool: Vec<String>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Vec<String>,
    #[arg(long, value_name = "ID")]
    correlation: Vec<String>,
    /// The client's own name for the call.
    #[arg(long, value_name = "ID")]
    invocation: Vec<String>,
    /// A policy that was violated.
    #[arg(long)]
    policy: Vec<String>,
    /// At least this risk, 0 to 1.
    #[arg(long, default_value_t = 0.0, hide_default_value = true)]
    min_risk: f64,
    /// Words that stand in the resource, the reason or the metadata, all of them.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "WORDS")]
    text: String,
    /// Only what was reported from outside the Host (or not).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    external: Option<bool>,
}

/// From when to when.
#[derive(Args, Debug)]
pub(crate) struct Times {
    /// From this time on: RFC 3339, or milliseconds since 1970.
    #[arg(long, alias = "start-ms", value_parser = moment, value_name = "TIME")]
    pub(crate) start: Option<i64>,
    /// Before this time.
    #[arg(long, alias = "end-ms", value_parser = moment, value_name = "TIME")]
    pub(crate) end: Option<i64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outcome {
    Success,
    Failure,
    Denied,
}

pub(super) fn event_type(text: &str) -> Result<v1::EventType, String> {
    let name = text.to_uppercase().replace('-', "_");
    let found = v1::EventType::from_str_name(&name)
        .or_else(|| v1::EventType::from_str_name(&format!("EVENT_{name}")));
    found.ok_or_else(|| "no such type; TOOL_INVOCATION is one".into())
}

/// Reads a time.
pub(crate) fn moment(text: &str) -> Result<i64, String> {
    if let Ok(milliseconds) = text.parse() {
        return Ok(milliseconds);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "neither RFC 3339, like 2026-11-27T05:30:00Z, nor milliseconds since 1970")?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| "too far away".into())
}

impl Times {
    /// Returns the range; nothing if neither end was given.
    pub(in crate::cli) fn range(&self) -> Result<Option<TimeRange>, Failure> {
        if self.start.is_none() && self.end.is_none() {
            return Ok(None);
        }
        let range =
            TimeRange { start: Timestamp(self.start.unwrap_or_default()), end: self.end.map(Timestamp) };
        if range.end.is_some_and(|end| end <= range.start) {
            return Err(Failure::usage("the range ends before it begins", "give an --end behind --start"));
        }
        Ok(Some(range))
    }
}

impl From<Filter> for v1::AuditFilter {
    fn from(filter: Filter) -> Self {
        let outcome = |outcome: Outcome| match outcome {
            Outcome::Success => v1::Outcome::Success.into(),
            Outcome::Failure => v1::Outcome::Failure.into(),
            Outcome::Denied => v1::Outcome::Denied.into(),
        };
        Self {
            event_types: filter.types.into_iter().map(i32::from).collect(),
            principal_ids: filter.principal,
            session_ids: filter.session,
            outcomes: filter.outcome.into_iter().map(outcome).collect(),
            actions: filter.action,
            resources: filter.resource,
            tools: filter.tool,
            source_ips: filter.source_ip,
            correlation_ids: filter.correlation,
            invocation_ids: filter.invocation,
            policies: filter.policy,
            min_risk: filter.min_risk,
            text: filter.text,
            external: filter.external,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_forms() {
        assert_eq!(moment("1700000000007"), Ok(1_700_000_000_007));
        assert_eq!(moment("2023-11-14T22:13:20.007Z"), Ok(1_700_000_000_007));
        assert!(moment("yesterday").is_err());
        assert_eq!(event_type("policy-violation"), Ok(v1::EventType::EventPolicyViolation));
    }
}
