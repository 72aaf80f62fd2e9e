//! S1: no two owners. From the log: who wrote the fenced records of a session; from the cluster: who said that it owned what.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Index, Invariant, Violation};
use crate::{
    audit_log::Record,
    evidence::Evidence,
    history::{Call, End, Sighting},
};

/// No shard moves away and back within a lease: a take-over waits longer, and a hand-over is not taken back at once. Records
/// of one writer that lie so close around another's are of two who both believed to own the session.
const LEASE_MS: u64 = 2_000;
/// As the cluster is created.
const SHARDS: u64 = 256;

pub(super) fn check(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut sessions: HashMap<&str, Vec<Written<'_>>> = HashMap::new();
    for record in evidence.records.iter().filter(|record| record.is_fenced()) {
        // Of a call that was not answered nobody knows when its records were written.
        let call = index.calls.get(&record.key).filter(|call| matches!(call.end, End::Answered { .. }));
        if let Some(call) = call {
            sessions.entry(&record.key.session).or_default().push(Written { record, call });
        }
    }
    let mut found: Vec<String> = sessions.values().filter_map(|written| interleaved(written)).collect();
    found.extend(claimed_twice(&evidence.history.sightings));
    found.into_iter().map(|what| Violation::new(Invariant::S1, what)).collect()
}

/// A record with the call that it is of: it was written while the client, whose clock nobody sets, waited for that.
#[derive(Clone, Copy)]
struct Written<'a> {
    record: &'a Record,
    call: &'a Call,
}

/// Finds the first writer that wrote within another's run. `written` is of one session, in the order of commits.
fn interleaved(written: &[Written<'_>]) -> Option<String> {
    let mut runs: Vec<(Written<'_>, Written<'_>)> = Vec::new();
    for &next in written {
        match runs.last_mut() {
            Some((_, last)) if last.record.writer == next.record.writer => *last = next,
            _ => runs.push((next, next)),
        }
    }
    runs.windows(3).find_map(|three| {
        let [(_, before), (between, _), (after, _)] = three else { return None };
        // They can't be further apart than this.
        let apart = after.call.ended_ms.saturating_sub(before.call.begun_ms);
        let (before, between, after) = (before.record, between.record, after.record);
        (before.writer == after.writer && apart < LEASE_MS).then(|| {
            format!(
                "{}: {} wrote {}, then {} wrote {}, then {} wrote {} again, within {apart} ms",
                before.key.session,
                before.writer,
                before.event,
                between.writer,
                between.event,
                after.writer,
                after.event,
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
    use crate::{
        check::sample::{answered, call, faultless, record, run},
        tools::Tool,
    };

    /// Answered calls that ended at these times, each with its record by this writer.
    fn written(all: &[(&str, u64)]) -> Evidence {
        let mut evidence = faultless();
        evidence.history.calls.clear();
        evidence.records.clear();
        for (n, (writer, ended_ms)) in all.iter().enumerate() {
            let (name, event) = (format!("c{n}"), format!("evt_{n}"));
            evidence.history.calls.push(call(&name, Tool::Put, ended_ms - 5, answered(&event)));
            evidence.records.push(record(&event, "tool.invoke", &name, writer));
        }
        evidence
    }

    #[test]
    fn a_zombie_that_writes_between_its_successors_records_is_found() {
        let found = run(
            check,
            &written(&[("wrt_old", 100), ("wrt_new", 4_000), ("wrt_old", 4_100), ("wrt_new", 4_200)]),
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].invariant, Invariant::S1);
        for id in ["ses_1", "wrt_old", "wrt_new", "evt_2"] {
            assert!(found[0].what.contains(id), "{found:?}");
        }
    }

    #[test]
    fn a_shard_that_moves_and_comes_back_later_is_no_second_owner() {
        let evidence = written(&[("wrt_1", 100), ("wrt_2", 3_000), ("wrt_1", 9_000)]);
        assert_eq!(run(check, &evidence), []);
    }

    #[test]
    fn what_may_have_been_far_apart_proves_nothing() {
        let mut evidence = written(&[("wrt_1", 100), ("wrt_2", 150), ("wrt_1", 5_000)]);
        evidence.history.calls[2].begun_ms = 160;
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
