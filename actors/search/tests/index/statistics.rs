use std::collections::BTreeMap;

use aesp_audit::{Query, tool};
use aesp_proto::{PrincipalId, Timestamp, v1::AuditEvent};
use aesp_search::{Group, GroupBy, Question, Tally};

use crate::world::{START, World};

const HOUR: i64 = 3_600_000;

/// What is counted, told by the events themselves.
fn group(event: &AuditEvent, by: &[GroupBy]) -> Group {
    let has = |one| by.contains(&one);
    let width = if has(GroupBy::Hour) { HOUR } else { 24 * HOUR };
    let at = event.timestamp_ms - event.timestamp_ms.rem_euclid(width);
    Group {
        at: (has(GroupBy::Hour) || has(GroupBy::Day)).then_some(Timestamp(at)),
        kind: has(GroupBy::Kind).then(|| event.event_type()),
        outcome: has(GroupBy::Outcome).then(|| event.outcome()),
        action: has(GroupBy::Action).then(|| event.action.clone()),
        principal: event.principal_id.parse::<PrincipalId>().ok().filter(|_| has(GroupBy::Principal)),
        tool: has(GroupBy::Tool).then(|| tool(&event.resource).unwrap_or_default().to_owned()),
        tally: Tally::default(),
    }
}

fn counted(events: &[AuditEvent], by: &[GroupBy]) -> BTreeMap<String, Tally> {
    let mut out: BTreeMap<String, Tally> = BTreeMap::new();
    for event in events {
        let tally = out.entry(format!("{:?}", group(event, by))).or_default();
        tally.events += 1;
        tally.occurrences += event.count.max(1);
    }
    out
}

async fn asked(world: &World, question: &Question) -> BTreeMap<String, Tally> {
    let (mut question, mut out) = (question.clone(), BTreeMap::<String, Tally>::new());
    loop {
        let answer = world.index.statistics(&question).await.unwrap();
        for line in answer.groups {
            let tally = line.tally;
            let sum = out.entry(format!("{:?}", Group { tally: Tally::default(), ..line })).or_default();
            sum.events += tally.events;
            sum.occurrences += tally.occurrences;
        }
        question.cursor = answer.next_cursor;
        if question.cursor.is_empty() {
            return out;
        }
    }
}

#[tokio::test]
async fn counts_are_those_of_the_log_with_any_index() {
    let world = World::new().await;
    world.record(300).await;
    let groups: [&[GroupBy]; 6] = [
        &[],
        &[GroupBy::Hour, GroupBy::Outcome],
        &[GroupBy::Day, GroupBy::Kind, GroupBy::Action],
        &[GroupBy::Principal],
        &[GroupBy::Tool, GroupBy::Outcome],
        &[GroupBy::Hour, GroupBy::Day, GroupBy::Principal, GroupBy::Tool],
    ];
    // One that begins and ends within segments.
    let times = [(None, None), (Some(START + HOUR + 100_000), Some(START + 4 * HOUR - 100_000))];
    for round in 0..3 {
        match round {
            1 => assert_eq!(world.build().await, 18),
            2 => world.record(50).await,
            _ => {}
        }
        for filter in world.filters() {
            for by in groups {
                for (start, end) in times {
                    let (start, end) = (start.map(Timestamp), end.map(Timestamp));
                    let query = Query { start, end, filter: filter.clone(), limit: 1_000, ..world.query() };
                    let question = Question {
                        tenant: world.tenant,
                        start,
                        end,
                        filter: filter.clone(),
                        by: by.to_vec(),
                        cursor: String::new(),
                    };
                    let expected = counted(&world.in_log(&query).await, by);
                    assert_eq!(asked(&world, &question).await, expected, "{question:?}");
                }
            }
        }
    }
}
