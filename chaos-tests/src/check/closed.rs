//! A1 and D1 from the other side: while no node can write, nothing that began meanwhile is answered, for it can't be on record.

use super::{Index, Invariant, Violation};
use crate::{evidence::Evidence, history::End};

pub(super) fn check(evidence: &Evidence, _: &Index<'_>) -> Vec<Violation> {
    let history = &evidence.history;
    let mut found = Vec::new();
    for &(from_ms, to_ms) in &history.closed {
        let within = history.calls.iter().filter(|call| call.begun_ms > from_ms && call.ended_ms < to_ms);
        found.extend(within.filter_map(|call| {
            let End::Answered { event, .. } = &call.end else { return None };
            let (key, begun, ended) = (&call.key, call.begun_ms, call.ended_ms);
            let what = format!(
                "{key} was sent at {begun} ms and answered ({event}) at {ended} ms; no node could write from {from_ms} to {to_ms} ms"
            );
            Some(Violation::new(Invariant::A1, what))
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{faultless, run};

    #[test]
    fn an_answer_while_nobody_can_write_is_found() {
        let mut evidence = faultless();
        // c2 is sent at 20 ms and answered at 25 ms.
        evidence.history.closed = vec![(15, 60)];
        let found = run(check, &evidence);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].invariant, Invariant::A1);
        for id in ["c2", "evt_2"] {
            assert!(found[0].what.contains(id), "{found:?}");
        }
    }

    #[test]
    fn what_began_before_or_ended_after_proves_nothing() {
        let mut evidence = faultless();
        evidence.history.closed = vec![(20, 25)];
        assert_eq!(run(check, &evidence), []);
    }
}
