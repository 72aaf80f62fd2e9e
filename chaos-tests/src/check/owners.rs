//! S1: no two owners. From the log: who wrote the fenced records of a session; from the cluster: who said that it owned what.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Index, Invariant, Violation};
use crate::{audit_log::Record, evidence::Evidence, history::Sighting};

/// No shard moves away and back within a lease: a take-over waits longer, and a hand-over is not taken back at once. Records
/// of one writer that lie so close around another's are of two who both believed to own the session.
const LEASE_MS: i64 = 2_000;
/// As the cluster is created.
const SHARDS: u64 = 256;

pub(super) fn check(evidence: &Evidence, _: &Index<'_>) -> Vec<Violation> {
    let mut sessions: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in evidence.records.iter().filter(|record| record.is_fenced()) {
        sessions.entry(&record.key.session).or_default().push(record);
    }
    let mut found: Vec<String> = sessions.values().filter_map(|records| interleaved(records)).collect();
    found.extend(claimed_twice(&evidence.history.sightings));
    found.into_iter().map(|what| Violation::new(Invariant::S1, what)).collect()
}

/// Finds the first writer that wrote within another's run. `records` are of one session, in the order of commits.
fn interleaved(records: &[&Record]) -> Option<String> {
    let mut runs: Vec<(&Record, &Record)> = Vec::new();
    for &record in records {
        match runs.last_mut() {
            Some((_, last)) if last.writer == record.writer => *last = record,
            _ => runs.push((record, record)),
        }
    }
    runs.windows(3).find_map(|three| {
        let [(_, before), (between, _), (after, _)] = three else { return None };
        let close = (after.at_ms - before.at_ms).abs() < LEASE_MS;
        (before.writer == after.writer && close).then(|| {
            format!(
                "{}: {} wrote {}, then {} wrote {}, then {} wrote {} again, within {} ms",
                before.key.session,
                before.writer,
                before.event,
                between.writer,
                between.event,
                after.writer,
                after.event,
                after.at_ms - before.at_ms
            )
        })
    })
}

/// Finds answers in which more shards are owned than there are, or an incarnation is there twice.
fn claimed_twice(sightings: &[Sighting]) -> Vec<String> {
    let mut rounds: BTreeMap<u64, Vec<&Sighting>> = BTreeMap::new();
    for sighting in sightings {
        rounds.entry(sighting.round).or_default().push(sighting);
    }
    let mut found = Vec::new();
    for (round, nodes) in rounds {
        let owned: u64 = nodes.iter().map(|node| node.shards).sum();
        let names: Vec<String> =
            nodes.iter().map(|node| format!("{}/{}: {}", node.node, node.incarnation, node.shards)).collect();
        if owned > SHARDS {
            found
                .push(format!("status {round} shows {owned} owned shards of {SHARDS}: {}", names.join(", ")));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = nodes.iter().find(|node| !seen.insert(&node.incarnation)) {
            found.push(format!("status {round} shows the incarnation {} twice", twice.incarnation));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{faultless, record, run};

    #[test]
    fn a_zombie_that_writes_between_its_successors_records_is_found() {
        let mut evidence = faultless();
        evidence.records = vec![
            record("evt_1", "tool.invoke", "c1", "wri_old", 0),
            record("evt_2", "tool.invoke", "c2", "wri_new", 4_000),
            record("evt_3", "tool.intent", "c3", "wri_old", 4_100),
            record("evt_4", "tool.invoke", "c4", "wri_new", 4_200),
        ];
        let found = run(check, &evidence);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].invariant, Invariant::S1);
        for id in ["ses_1", "wri_old", "wri_new", "evt_3"] {
            assert!(found[0].what.contains(id), "{found:?}");
        }
    }

    #[test]
    fn a_shard_that_moves_and_comes_back_later_is_no_second_owner() {
        let mut evidence = faultless();
        evidence.records = vec![
            record("evt_1", "tool.invoke", "c1", "wri_1", 0),
            record("evt_2", "tool.invoke", "c2", "wri_2", 3_000),
            record("evt_3", "tool.invoke", "c3", "wri_1", 9_000),
        ];
        assert_eq!(run(check, &evidence), []);
    }

    #[test]
    fn shards_that_two_nodes_claim_are_found() {
        let mut evidence = faultless();
        let sighting =
            |node: &str, shards| Sighting { round: 1, node: node.into(), incarnation: node.into(), shards };
        evidence.history.sightings = vec![sighting("node-1", 128), sighting("node-2", 128)];
        assert_eq!(run(check, &evidence), []);
        evidence.history.sightings[1].shards = 129;
        assert_eq!(run(check, &evidence).len(), 1);
    }
}
