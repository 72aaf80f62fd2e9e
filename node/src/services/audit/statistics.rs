use aesp_proto::{
    Error,
    v1::{AuditCount, AuditGroup, AuditIndex, GetAuditStatisticsRequest, GetAuditStatisticsResponse},
};
use aesp_search::{Group, GroupBy, Question, Statistics, Status};

use super::filter;

/// Reads what is to be counted.
pub(super) fn question(
    asked: &GetAuditStatisticsRequest,
    tenant: aesp_proto::TenantId,
) -> Result<Question, Error> {
    let query = filter::in_time(aesp_audit::Query::new(tenant), asked.start_ms, asked.end_ms);
    let group = |group: &i32| match AuditGroup::try_from(*group) {
        Ok(AuditGroup::Hour) => Ok(GroupBy::Hour),
        Ok(AuditGroup::Day) => Ok(GroupBy::Day),
        Ok(AuditGroup::EventType) => Ok(GroupBy::Kind),
        Ok(AuditGroup::Outcome) => Ok(GroupBy::Outcome),
        Ok(AuditGroup::Action) => Ok(GroupBy::Action),
        Ok(AuditGroup::Principal) => Ok(GroupBy::Principal),
        Ok(AuditGroup::Tool) => Ok(GroupBy::Tool),
        Ok(AuditGroup::Unspecified) | Err(_) => Err(Error::invalid("group_by has an unknown value")),
    };
    Ok(Question {
        tenant,
        start: query.start,
        end: query.end,
        filter: filter::filter(asked.filter.as_ref())?,
        by: asked.group_by.iter().map(group).collect::<Result<_, _>>()?,
        cursor: asked.cursor.clone(),
    })
}

/// Returns the answer.
pub(super) fn answer(statistics: Statistics) -> GetAuditStatisticsResponse {
    GetAuditStatisticsResponse {
        counts: statistics.groups.into_iter().map(count).collect(),
        next_cursor: statistics.next_cursor,
        index: Some(index(&statistics.index, false)),
    }
}

/// Says how far the index is.
pub(super) fn index(status: &Status, at_end: bool) -> AuditIndex {
    AuditIndex {
        events: status.events,
        segments: status.segments,
        newest_ms: status.newest.0,
        usable: status.usable,
        at_end,
    }
}

fn count(line: Group) -> AuditCount {
    AuditCount {
        start_ms: line.at.unwrap_or_default().0,
        event_type: line.kind.unwrap_or_default().into(),
        outcome: line.outcome.unwrap_or_default().into(),
        action: line.action.unwrap_or_default(),
        principal_id: line.principal.map(|id| id.to_string()).unwrap_or_default(),
        tool: line.tool.unwrap_or_default(),
        events: line.tally.events,
        occurrences: line.tally.occurrences,
    }
}
