use std::collections::BTreeMap;

use aesp_proto::v1;
use clap::{Args, ValueEnum};

use super::filter::{Filter, Times};
use crate::cli::{context::Context, failure::Failure};

#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// What tells the lines apart; may be repeated.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["type", "outcome"])]
    by: Vec<By>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    times: Times,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Hour,
    Day,
    Type,
    Outcome,
    Action,
    Principal,
    Tool,
}

impl By {
    fn group(self) -> v1::AuditGroup {
        match self {
            Self::Hour => v1::AuditGroup::Hour,
            Self::Day => v1::AuditGroup::Day,
            Self::Type => v1::AuditGroup::EventType,
            Self::Outcome => v1::AuditGroup::Outcome,
            Self::Action => v1::AuditGroup::Action,
            Self::Principal => v1::AuditGroup::Principal,
            Self::Tool => v1::AuditGroup::Tool,
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::Hour | Self::Day => "start_ms",
            Self::Type => "event_type",
            Self::Outcome => "outcome",
            Self::Action => "action",
            Self::Principal => "principal_id",
            Self::Tool => "tool",
        }
    }
}

type Line = (i64, i32, i32, String, String, String);

impl Stats {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let mut request = v1::GetAuditStatisticsRequest {
            tenant_id: ctx.tenant(),
            start_ms: self.times.start.unwrap_or_default(),
            end_ms: self.times.end.unwrap_or_default(),
            filter: Some(self.filter.into()),
            group_by: self.by.iter().map(|by| by.group().into()).collect(),
            cursor: String::new(),
        };
        // What one request may not count alone is added up.
        let mut lines: BTreeMap<Line, (u64, u64)> = BTreeMap::new();
        let index = loop {
            let answer = client.audit().get_audit_statistics(request.clone()).await?.into_inner();
            for count in answer.counts {
                let line = (
                    count.start_ms,
                    count.event_type,
                    count.outcome,
                    count.action,
                    count.principal_id,
                    count.tool,
                );
                let sum = lines.entry(line).or_default();
                *sum = (sum.0 + count.events, sum.1 + count.occurrences);
            }
            request.cursor = answer.next_cursor;
            if request.cursor.is_empty() {
                break answer.index;
            }
        };
        let counts = lines.into_iter().map(|(line, (events, occurrences))| {
            let (start_ms, event_type, outcome, action, principal_id, tool) = line;
            v1::AuditCount { start_ms, event_type, outcome, action, principal_id, tool, events, occurrences }
        });
        let all =
            v1::GetAuditStatisticsResponse { counts: counts.collect(), next_cursor: String::new(), index };
        let mut columns: Vec<&str> = Vec::new();
        for column in self.by.iter().map(|by| by.column()).chain(["events", "occurrences"]) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        ctx.console.list("GetAuditStatisticsResponse", &all, "counts", &columns)
    }
}
