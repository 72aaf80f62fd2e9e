//! Q1: no limit of a tenant is exceeded over the whole cluster. From when calls were at their tool, when calls began, and how
//! long sessions certainly lived. What nobody knows counts as nothing, so that each finding is one.

use std::collections::{BTreeMap, HashMap};

use super::{Index, Invariant, Violation};
use crate::{
    crowding::Attempt,
    evidence::Evidence,
    history::CallKey,
    visits::{Left, Visit},
};

/// How long a node may use a start of a call that it was given.
const CREDIT_LIFE_US: u64 = 256_000;
/// Within so much time windows are looked at: what exceeds a rate for longer exceeds it sooner, too.
const LONGEST_WINDOW_US: u64 = 20_000_000;
/// How long a cancellation takes at the most to come to the tool of a healthy Runtime.
const CANCELLED_US: u64 = 250_000;

pub(super) fn check(evidence: &Evidence, _: &Index<'_>) -> Vec<Violation> {
    let attempts: HashMap<&CallKey, &Attempt> =
        evidence.history.crowding.attempts.iter().map(|attempt| (&attempt.key, attempt)).collect();
    let found = [calls(evidence, &attempts), starts(evidence, &attempts), sessions(evidence)];
    found.into_iter().flatten().map(|what| Violation::new(Invariant::Q1, what)).collect()
}

/// A time during which something certainly took up a place.
#[derive(Clone, Debug)]
struct Span {
    from_us: u64,
    to_us: u64,
    what: String,
}

/// Finds the first moment at which more than `limit` were there at once.
fn crowded(mut spans: Vec<Span>, limit: u32) -> Option<(u64, Vec<String>)> {
    spans.sort_by_key(|span| span.from_us);
    let mut there: Vec<Span> = Vec::new();
    for span in spans {
        let now = span.from_us;
        there.retain(|other| other.to_us > now);
        there.push(span);
        if there.len() > limit as usize {
            return Some((now, there.into_iter().map(|span| span.what).collect()));
        }
    }
    None
}

fn calls(evidence: &Evidence, attempts: &HashMap<&CallKey, &Attempt>) -> Option<String> {
    let limit = evidence.limits.calls_in_flight;
    let held = evidence.visits.iter().filter_map(|visit| {
        let (attempt, left) = (attempts.get(&visit.key)?, visit.left?);
        let to_us = if attempt.dispatch.as_ref() == Some(&visit.dispatch) {
            left.at_us
        } else if is_orphan(evidence, attempt, visit, left) {
            left.at_us.saturating_sub(CANCELLED_US)
        } else {
            return None;
        };
        let what = format!("{} ({})", visit.key, visit.dispatch);
        (to_us > visit.came_us).then_some(Span { from_us: visit.came_us, to_us, what })
    });
    let (at_us, names) = crowded(held.collect(), limit)?;
    Some(format!(
        "{} calls were at tools at {} ms, and {limit} may be in flight: {}",
        names.len(),
        since(evidence, at_us),
        names.join(", ")
    ))
}

/// Tells whether what runs at the tool was left behind by a node that was killed: not by that of its client nor that of its
/// Runtime, so by its session's owner. Its place is kept for it. What living nodes give up they cancel.
fn is_orphan(evidence: &Evidence, attempt: &Attempt, visit: &Visit, left: Left) -> bool {
    let owner_died = evidence.history.crowding.killed.iter().any(|killed| {
        killed.node != attempt.node
            && (visit.came_us..left.at_us).contains(&killed.at_us)
            && attempt.ended_us > killed.at_us
    });
    left.connected && owner_died
}

/// Finds a window in which more calls began than may. A call began between its being sent and its coming to a tool.
fn starts(evidence: &Evidence, attempts: &HashMap<&CallKey, &Attempt>) -> Option<String> {
    let rate = u64::from(evidence.limits.calls_per_second);
    let mut first: BTreeMap<&CallKey, u64> = BTreeMap::new();
    for visit in &evidence.visits {
        let came = first.entry(&visit.key).or_insert(visit.came_us);
        *came = visit.came_us.min(*came);
    }
    let mut begun: Vec<(u64, u64)> =
        first.iter().filter_map(|(key, came)| Some((attempts.get(*key)?.asked_us, *came))).collect();
    begun.sort_unstable();
    for (n, &(from_us, _)) in begun.iter().enumerate() {
        let near = begun[n..].iter().take_while(|(asked, _)| asked - from_us < LONGEST_WINDOW_US);
        let mut came: Vec<u64> = near.map(|(_, came)| *came).collect();
        came.sort_unstable();
        for (&to_us, count) in came.iter().zip(1_u64..) {
            let window_us = to_us - from_us;
            // The burst is a second's worth.
            let most = rate + rate * (window_us + CREDIT_LIFE_US) / 1_000_000 + 1;
            if count > most {
                return Some(format!(
                    "{count} calls began within {} ms from {} ms on, and {most} may at {rate} a second",
                    window_us / 1_000,
                    since(evidence, from_us)
                ));
            }
        }
    }
    None
}

fn sessions(evidence: &Evidence) -> Option<String> {
    let limit = evidence.limits.sessions;
    let lived = evidence.history.crowding.stays.iter().map(|stay| Span {
        from_us: stay.made_us,
        to_us: stay.closed_us,
        what: stay.session.to_string(),
    });
    let (at_us, names) = crowded(lived.collect(), limit)?;
    Some(format!(
        "{} sessions lived at {} ms, and {limit} may: {}",
        names.len(),
        since(evidence, at_us),
        names.join(", ")
    ))
}

/// Milliseconds since the workload began.
fn since(evidence: &Evidence, at_us: u64) -> u64 {
    at_us.saturating_sub(evidence.history.begun_us) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::sample::{faultless, key, run},
        crowding::{Killed, Limits, Stay},
    };

    const SECOND_US: u64 = 1_000_000;
    const LIMITS: Limits = Limits { sessions: 2, calls_in_flight: 2, calls_per_second: 10 };

    /// A run in which calls were held from and to these times, each asked a millisecond before and answered one after.
    fn held(calls: &[(u64, u64)]) -> Evidence {
        let mut evidence = faultless();
        evidence.limits = LIMITS;
        for (n, &(came_us, left_us)) in calls.iter().enumerate() {
            let (key, dispatch) = (key(&format!("h{n}")), format!("dsp_h{n}"));
            let left = Some(Left { at_us: left_us, connected: true });
            evidence.visits.push(Visit { key: key.clone(), dispatch: dispatch.clone(), came_us, left });
            evidence.history.crowding.attempts.push(Attempt {
                key,
                node: 0,
                asked_us: came_us - 1_000,
                ended_us: left_us + 1_000,
                dispatch: Some(dispatch),
            });
        }
        evidence
    }

    const THREE: [(u64, u64); 3] =
        [(SECOND_US, 4 * SECOND_US), (2 * SECOND_US, 5 * SECOND_US), (3 * SECOND_US, 6 * SECOND_US)];

    #[test]
    fn a_call_beyond_those_that_may_be_in_flight_is_found() {
        let found = run(check, &held(&THREE));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].invariant, Invariant::Q1);
        for part in ["3 calls", "3000 ms", "h0", "h1", "h2", "dsp_h2"] {
            assert!(found[0].what.contains(part), "{found:?}");
        }
    }

    #[test]
    fn one_that_comes_when_another_leaves_is_not_beyond() {
        let mut calls = THREE;
        calls[2].0 = calls[0].1;
        assert_eq!(run(check, &held(&calls)), []);
    }

    #[test]
    fn a_place_that_is_given_away_under_the_call_of_a_killed_owner_is_found() {
        let mut evidence = held(&THREE);
        evidence.history.crowding.attempts[0].dispatch = None;
        assert_eq!(run(check, &evidence), [], "why its client heard no answer is not known");
        evidence.history.crowding.killed = vec![Killed { node: 1, at_us: 2_500_000 }];
        assert_eq!(run(check, &evidence).len(), 1);
        for spoil in [
            // Its client's own node was the one, so that its owner gave it up.
            (|evidence| evidence.history.crowding.killed[0].node = 0) as fn(&mut Evidence),
            // The Host could not have cancelled it.
            |evidence| evidence.visits[0].left = Some(Left { at_us: 4 * SECOND_US, connected: false }),
            // It was refused before.
            |evidence| evidence.history.crowding.attempts[0].ended_us = 2 * SECOND_US,
            // It was cancelled.
            |evidence| evidence.visits[0].left = None,
        ] {
            let mut evidence = held(&THREE);
            evidence.history.crowding.attempts[0].dispatch = None;
            evidence.history.crowding.killed = vec![Killed { node: 1, at_us: 2_500_000 }];
            spoil(&mut evidence);
            assert_eq!(run(check, &evidence), []);
        }
    }

    /// Calls that begin one after the other, so many microseconds apart.
    fn begun(count: u64, apart_us: u64) -> Evidence {
        let calls: Vec<_> =
            (0..count).map(|n| (SECOND_US + n * apart_us, SECOND_US + n * apart_us + 1)).collect();
        held(&calls)
    }

    #[test]
    fn calls_that_begin_faster_than_the_rate_are_found() {
        // A burst of ten, what credits may add, and no more.
        assert_eq!(run(check, &begun(13, 10)), []);
        let found = run(check, &begun(14, 10));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].what.contains("14 calls began") && found[0].what.contains("10 a second"),
            "{found:?}"
        );
        assert_eq!(run(check, &begun(200, 100_000)), [], "ten a second");
        assert_eq!(run(check, &begun(200, 80_000)).len(), 1, "more, for long");
    }

    #[test]
    fn a_call_that_waited_may_have_begun_long_before_it_ran() {
        let mut evidence = begun(14, 10);
        for attempt in &mut evidence.history.crowding.attempts[..7] {
            attempt.asked_us -= SECOND_US / 2;
        }
        assert_eq!(run(check, &evidence), []);
    }

    #[test]
    fn a_session_beyond_those_that_may_live_is_found() {
        let stay = |session: &str, made_us, closed_us| Stay { session: session.into(), made_us, closed_us };
        let mut evidence = held(&[]);
        evidence.history.crowding.stays =
            vec![stay("ses_a", 1_000, u64::MAX), stay("ses_b", 2_000, 5_000), stay("ses_c", 5_000, 9_000)];
        assert_eq!(run(check, &evidence), []);
        evidence.history.crowding.stays[1].closed_us = 6_000;
        let found = run(check, &evidence);
        assert_eq!(found.len(), 1, "{found:?}");
        for part in ["3 sessions", "ses_a", "ses_b", "ses_c"] {
            assert!(found[0].what.contains(part), "{found:?}");
        }
    }
}
