//! D1: nothing acknowledged is lost.

use std::collections::{BTreeMap, BTreeSet};

use aesp_sdk::ErrorCode;

use super::{Index, Invariant, Violation};
use crate::{
    evidence::{Asked, Evidence},
    history::{Call, End},
};

pub(super) fn check(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for repeat in &evidence.repeats {
        let Some(call) = index.calls.get(&repeat.key) else { continue };
        found.extend(forgotten(call, &repeat.heard));
    }
    for call in &evidence.history.calls {
        if call.end.is_success() && !index.effects.contains_key(&call.key) {
            found.push(format!("{} was answered with success, and no tool counted it", call.key));
        }
    }
    found.extend(lost_sessions(evidence));
    found.extend(lost_changes(evidence));
    found.into_iter().map(|what| Violation::new(Invariant::D1, what)).collect()
}

/// Compares what a client heard first with what it heard when it asked again.
fn forgotten(call: &Call, heard: &Asked) -> Option<String> {
    let End::Answered { event: first, failure: None, .. } = &call.end else { return None };
    let key = &call.key;
    match heard {
        Asked::Answer { replayed: true, faithful: true, event } if event == first => None,
        Asked::Answer { replayed: false, event, .. } => {
            Some(format!("{key} was answered as {first} and ran again when it was asked again, as {event}"))
        }
        Asked::Answer { event, .. } => {
            Some(format!("{key} was answered as {first} and has another answer now, {event}"))
        }
        other => Some(format!("{key} was answered as {first}, and asked again it is {other}")),
    }
}

/// Sessions that the Host made, that none of ours ended, and that it does not know any more.
fn lost_sessions(evidence: &Evidence) -> Vec<String> {
    let lost: BTreeSet<&str> = evidence
        .history
        .calls
        .iter()
        .filter(|call| call.end == End::Refused(ErrorCode::SessionInvalid))
        .map(|call| &*call.key.session)
        .collect();
    lost.into_iter().map(|session| format!("the session {session} is gone")).collect()
}

fn lost_changes(evidence: &Evidence) -> Vec<String> {
    let Some(roles) = &evidence.roles else { return Vec::new() };
    let mut last: BTreeMap<&str, bool> = BTreeMap::new();
    for change in &evidence.history.changes {
        last.insert(&change.role, change.exists);
    }
    let wrong = last.into_iter().filter(|(role, exists)| roles.contains(*role) != *exists);
    let tell = |(role, exists): (&str, bool)| match exists {
        true => format!("the role {role} was created, and is not there"),
        false => format!("the role {role} was deleted, and is there"),
    };
    wrong.map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{faultless, run};

    #[test]
    fn a_lost_outcome_is_found() {
        let mut evidence = faultless();
        evidence.repeats[1].heard = Asked::Refused("NOT_FOUND".into());
        let found = run(check, &evidence);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].invariant, Invariant::D1);
        assert!(found[0].what.contains("c2") && found[0].what.contains("NOT_FOUND"), "{found:?}");
    }

    #[test]
    fn an_outcome_that_was_forgotten_and_made_anew_is_found() {
        let mut evidence = faultless();
        evidence.repeats[0].heard = Asked::Answer { event: "evt_7".into(), replayed: false, faithful: true };
        assert!(run(check, &evidence)[0].what.contains("ran again"));
        evidence.repeats[0].heard = Asked::Answer { event: "evt_7".into(), replayed: true, faithful: true };
        assert!(run(check, &evidence)[0].what.contains("another answer"));
    }

    #[test]
    fn a_success_without_an_effect_is_found() {
        let mut evidence = faultless();
        evidence.effects.retain(|effect| effect.key.invocation != "c1");
        assert_eq!(run(check, &evidence).len(), 1);
    }

    #[test]
    fn a_lost_session_and_a_lost_change_are_found() {
        let mut evidence = faultless();
        evidence.history.calls[3].end = End::Refused(ErrorCode::SessionInvalid);
        evidence.roles = Some(["chaos-2".to_owned()].into());
        evidence.history.changes[0].exists = true;
        let found = run(check, &evidence);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].what.contains("ses_1") && found[1].what.contains("chaos-1"), "{found:?}");
    }
}
