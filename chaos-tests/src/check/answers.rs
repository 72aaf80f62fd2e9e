//! A1 and T1: an answer has its one record, and is the call's own.

use std::collections::HashMap;

use super::{Index, Invariant, Violation};
use crate::{
    audit_log::Record,
    evidence::{Evidence, Verified},
    history::{Call, End},
};

pub(super) fn check(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    if let Verified::Broken(why) = &evidence.verified {
        found.push(Violation::new(Invariant::A1, format!("the export does not verify: {why}")));
    }
    let mut by_event: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in &evidence.records {
        by_event.entry(&record.event).or_default().push(record);
    }
    for call in &evidence.history.calls {
        let End::Answered { event, faithful, .. } = &call.end else { continue };
        if !faithful {
            let what = format!("the answer of {} is another call's (record {event})", call.key);
            found.push(Violation::new(Invariant::T1, what));
        }
        let named = by_event.get(event.as_str()).map_or(&[][..], Vec::as_slice);
        found.extend(wrong_record(call, event, named).map(|what| Violation::new(Invariant::A1, what)));
    }
    found.extend(settled_twice(index));
    found
}

/// Compares an answer with the records that have its event id.
fn wrong_record(call: &Call, event: &str, named: &[&Record]) -> Option<String> {
    let key = &call.key;
    match named {
        [] => Some(format!("{key} was answered, and its record {event} is not in the log")),
        [record] if record.key != *key => {
            Some(format!("{key} was answered with the record {event}, which is of {}", record.key))
        }
        [record] if !record.settles() => Some(format!(
            "{key} was answered with the record {event}, a {} that settles nothing",
            record.action
        )),
        [_] => None,
        several => Some(format!("the record {event} of {key} is in the log {} times", several.len())),
    }
}

/// Finds calls with more than one outcome on record, and outcomes of calls that nobody made in a session of ours.
fn settled_twice(index: &Index<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (key, records) in &index.settled {
        let events: Vec<&str> = records.iter().map(|record| record.event.as_str()).collect();
        if events.len() > 1 {
            let what = format!("{key} has {} outcomes on record: {}", events.len(), events.join(", "));
            found.push(Violation::new(Invariant::A1, what));
        }
        if index.sessions.contains_key(&*key.session) && !index.calls.contains_key(key) {
            let what = format!("{} record an outcome of {key}, which nobody called", events.join(", "));
            found.push(Violation::new(Invariant::A1, what));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{answered, faultless, record, run};

    #[test]
    fn a_missing_record_is_found() {
        let mut evidence = faultless();
        evidence.records.retain(|record| record.event != "evt_2");
        let found = run(check, &evidence);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].invariant, Invariant::A1);
        assert!(found[0].what.contains("c2") && found[0].what.contains("evt_2"), "{found:?}");
    }

    #[test]
    fn a_second_outcome_is_found() {
        let mut evidence = faultless();
        evidence.records.push(record("evt_9", "tool.settle", "c1", "wri_2"));
        let found = run(check, &evidence);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].what.contains("evt_1, evt_9"), "{found:?}");
    }

    #[test]
    fn an_answer_that_names_anothers_record_is_found() {
        let mut evidence = faultless();
        evidence.history.calls[0].end = answered("evt_2");
        assert!(!run(check, &evidence).is_empty());
        evidence.history.calls[0].end = answered("evt_i");
        assert!(run(check, &evidence)[0].what.contains("settles nothing"));
    }

    #[test]
    fn a_record_of_a_call_that_nobody_made_is_found() {
        let mut evidence = faultless();
        evidence.records.push(record("evt_9", "tool.invoke", "c99", "wri_1"));
        assert!(run(check, &evidence)[0].what.contains("nobody called"));
    }

    #[test]
    fn a_broken_export_and_anothers_answer_are_found() {
        let mut evidence = faultless();
        evidence.verified = Verified::Broken("line 7".into());
        evidence.history.calls[1].end =
            End::Answered { event: "evt_2".into(), failure: None, faithful: false };
        let found: Vec<Invariant> = run(check, &evidence).into_iter().map(|v| v.invariant).collect();
        assert_eq!(found, [Invariant::A1, Invariant::T1]);
    }
}
