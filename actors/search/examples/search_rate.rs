//! Measures how long a page of a selective search and a count take, on LMDB:
//! `cargo run --release -p aesp-search --example search_rate [events] [folder]`, by default with a million events over thirty days.
#![expect(clippy::print_stdout, reason = "prints its measurement")]

mod made;

use std::{collections::BTreeSet, error::Error, path::PathBuf, sync::Arc, time::Duration};

use aesp_audit::{Filter, Options, Query, Recorder, words};
use aesp_proto::{Clock, ManualClock, Timestamp, v1::Outcome};
use aesp_search::{GroupBy, Index, Metrics, Question, Step};
use futures::future::try_join_all;
use tokio::time::Instant;

use self::made::{Made, PRINCIPALS, SESSION_EVENTS, cpu_seconds, principal};

const UNIT_EVENTS: u64 = 250;
const UNITS_AT_ONCE: u64 = 16;
const DAYS: u64 = 30;
const START: i64 = 1_760_000_000_000;
const ROUNDS: u64 = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let events: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let base = std::env::args().nth(2).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(&base)?;
    let made = Made::new(folder.path()).await?;

    let clock = Arc::new(ManualClock::new(Timestamp(START)));
    let at = Arc::clone(&clock) as Arc<dyn Clock>;
    let options = Options { batch_bytes: 3_000_000, ..Options::default() };
    let (recorder, duty) = Recorder::start(made.store.clone(), at, made.entropy.clone(), options).await?;
    let begun = Instant::now();
    let mut number = 0;
    while number < events {
        let units =
            (number..(number + UNIT_EVENTS * UNITS_AT_ONCE).min(events)).step_by(UNIT_EVENTS as usize);
        let unit = |first: u64| (first..(first + UNIT_EVENTS).min(events)).map(|n| made.event(n)).collect();
        try_join_all(units.map(|first| recorder.append(unit(first)))).await?;
        number += UNIT_EVENTS * UNITS_AT_ONCE;
        clock.set(Timestamp(START + i64::try_from(number * DAYS * 86_400_000 / events)?));
    }
    duty.stop().await?;
    println!("{events} events written in {:.1} s", begun.elapsed().as_secs_f64());

    let index = Index::new(made.store.clone(), Metrics::unregistered()?);
    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    while index.advance(made.tenant, made.fence).await? == Step::More {}
    let status = index.status(made.tenant).await?.0;
    println!(
        "index: {} segments, {:.0} events/s, {:.1} µs CPU an event",
        status.segments,
        status.events as f64 / begun.elapsed().as_secs_f64(),
        (cpu_seconds()? - cpu) * 1e6 / status.events as f64
    );

    type Makes = Box<dyn Fn(u64) -> Filter>;
    let number = move |round: u64| round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % events;
    let none = Filter::default;
    let searches: [(&str, Makes); 6] = [
        (
            "a correlation id",
            Box::new(move |round| Filter {
                correlation_ids: vec![format!("correlation-{}", number(round))],
                ..none()
            }),
        ),
        (
            "a session",
            Box::new(move |round| {
                let session = u128::from(number(round) / SESSION_EVENTS).to_be_bytes();
                Filter { sessions: vec![aesp_proto::SessionId::from_bytes(session)], ..none() }
            }),
        ),
        (
            "a principal's refusals",
            Box::new(move |round| Filter {
                principals: vec![principal(round * 50 % PRINCIPALS)],
                outcomes: vec![Outcome::Denied],
                ..none()
            }),
        ),
        (
            "an address and a tool",
            Box::new(move |round| Filter {
                source_ips: vec![format!("198.51.{}.{}", round % 7, round % 251)],
                tools: vec!["tool_3".into()],
                ..none()
            }),
        ),
        (
            "two words",
            Box::new(move |round| Filter {
                words: words(&format!("invocation policy worker {}", round % 9)),
                ..none()
            }),
        ),
        (
            "what is nowhere",
            Box::new(move |round| Filter { words: BTreeSet::from([format!("nowhere{round}")]), ..none() }),
        ),
    ];
    for (what, filter) in &searches {
        let (mut times, mut found) = (Vec::new(), 0);
        for round in 0..ROUNDS {
            let query = Query { filter: filter(round), newest_first: true, ..Query::new(made.tenant) };
            let begun = Instant::now();
            found += index.search(&query).await?.page.events.len();
            times.push(begun.elapsed());
        }
        show(&format!("first page of {what} ({:.1} events)", found as f64 / ROUNDS as f64), times);
    }
    let counts: [(&str, Vec<GroupBy>); 2] = [
        ("hour and outcome", vec![GroupBy::Hour, GroupBy::Outcome]),
        ("principal", vec![GroupBy::Principal]),
    ];
    for (what, by) in counts {
        let (mut times, mut lines) = (Vec::new(), 0);
        for _ in 0..10 {
            let begun = Instant::now();
            let mut cursor = String::new();
            loop {
                let (by, filter) = (by.clone(), Filter::default());
                let question = Question { tenant: made.tenant, start: None, end: None, filter, by, cursor };
                let answer = index.statistics(&question).await?;
                lines = answer.groups.len();
                cursor = answer.next_cursor;
                if cursor.is_empty() {
                    break;
                }
            }
            times.push(begun.elapsed());
        }
        show(&format!("count by {what} ({lines} lines)"), times);
    }
    Ok(())
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.1} ms, p95 {:.1} ms, longest {:.1} ms", at(50), at(95), at(100));
}
