//! R1: no use of a right after its revocation returned.

use super::{Index, Invariant, Violation};
use crate::{
    evidence::Evidence,
    history::{Call, End, Revocation},
};

pub(super) fn check(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for revocation in &evidence.history.revocations {
        let calls = index.sessions.get(&*revocation.session).into_iter().flatten();
        let late = calls.filter(|call| call.asked_ms > revocation.returned_ms);
        found.extend(late.filter_map(|call| used(call, revocation, index)));
    }
    found.into_iter().map(|what| Violation::new(Invariant::R1, what)).collect()
}

/// Tells how a call that was sent after the revocation used the right.
fn used(call: &Call, revocation: &Revocation, index: &Index<'_>) -> Option<String> {
    let Revocation { principal, returned_ms, .. } = revocation;
    let (key, asked) = (&call.key, call.asked_ms);
    if let End::Answered { event, .. } = &call.end {
        return Some(format!(
            "{key} of {principal} was sent at {asked} ms and answered ({event}); the revocation had returned at {returned_ms} ms"
        ));
    }
    // An earlier attempt, from before the revocation, may have run.
    let effects = index.effects.get(key).filter(|_| call.attempts == 1)?;
    let dispatches: Vec<&str> = effects.iter().map(|effect| effect.dispatch.as_str()).collect();
    Some(format!(
        "{key} of {principal} was sent at {asked} ms and ran ({}); the revocation had returned at {returned_ms} ms",
        dispatches.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::sample::{answered, effect, faultless, run},
        tools::Tool,
    };

    #[test]
    fn an_answer_after_the_revocation_is_found() {
        let mut evidence = faultless();
        evidence.history.calls[3].end = answered("evt_4");
        let found = run(check, &evidence);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].invariant, Invariant::R1);
        for id in ["c4", "ses_1", "prn_1", "evt_4"] {
            assert!(found[0].what.contains(id), "{found:?}");
        }
    }

    #[test]
    fn an_effect_after_the_revocation_is_found() {
        let mut evidence = faultless();
        evidence.effects.push(effect(Tool::Look, "c4", "dsp_9"));
        assert!(run(check, &evidence)[0].what.contains("dsp_9"));
    }

    #[test]
    fn calls_from_before_the_revocation_may_end_after_it() {
        let mut evidence = faultless();
        evidence.history.calls[2].ended_ms = 200;
        assert_eq!(run(check, &evidence), []);
    }
}
