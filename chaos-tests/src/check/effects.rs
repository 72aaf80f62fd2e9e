//! I1: a call that must not run twice ran once at most, and one that is said never to have run did not.

use super::{Index, Invariant, Violation};
use crate::{
    evidence::{Asked, Evidence},
    tools::Tool,
};

pub(super) fn check(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (key, effects) in &index.effects {
        let paid: Vec<&str> = effects
            .iter()
            .filter(|effect| effect.tool == Tool::Pay)
            .map(|effect| effect.dispatch.as_str())
            .collect();
        if paid.len() > 1 {
            let what = format!("{key} ran {} times, in the dispatches {}", paid.len(), paid.join(", "));
            found.push(Violation::new(Invariant::I1, what));
        }
    }
    for repeat in &evidence.repeats {
        let ran = index.effects.get(&repeat.key);
        if let (Asked::NeverRan, Some(effects)) = (&repeat.heard, ran) {
            let dispatches: Vec<&str> = effects.iter().map(|effect| effect.dispatch.as_str()).collect();
            let what =
                format!("{} is said never to have run, and ran: {}", repeat.key, dispatches.join(", "));
            found.push(Violation::new(Invariant::I1, what));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{effect, faultless, run};

    #[test]
    fn a_duplicated_effect_is_found() {
        let mut evidence = faultless();
        evidence.effects.push(effect(Tool::Pay, "c3", "dsp_9"));
        let found = run(check, &evidence);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].invariant, Invariant::I1);
        for id in ["c3", "dsp_4", "dsp_9"] {
            assert!(found[0].what.contains(id), "{found:?}");
        }
    }

    #[test]
    fn a_call_that_is_denied_to_have_run_is_found() {
        let mut evidence = faultless();
        evidence.repeats[0].heard = Asked::NeverRan;
        assert_eq!(run(check, &evidence).len(), 1);
    }
}
