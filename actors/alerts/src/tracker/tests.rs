//! The tracker against a model that keeps every event and looks at every millisecond anew.

use std::collections::BTreeMap;

use aesp_proto::{EventId, v1::Outcome};
use proptest::prelude::*;

use super::*;
use crate::{Document, rules::Rules};

/// A rule with small numbers: one slot of a window is a millisecond.
fn rule(text: &str) -> Arc<Rule> {
    let text = format!("[[rules]]\nname = \"r\"\nevents = {{ actions = [\"a.hit\"] }}\n{text}");
    let document = Document::read(&text).unwrap();
    let rules = Rules::compile(aesp_proto::TenantId::from_bytes([1; 16]), &document).unwrap();
    let found = rules.all().find(|rule| rule.name == "r").cloned();
    found.unwrap()
}

fn event(at: i64, action: &str, group: u8) -> AuditEvent {
    AuditEvent {
        event_id: EventId::from_bytes([group; 16]).to_string(),
        timestamp_ms: at,
        action: action.into(),
        outcome: Outcome::Success.into(),
        source_ip: group.to_string(),
        ..AuditEvent::default()
    }
}

/// What became of groups: when, which, and whether an alert began.
type Told = Vec<(i64, String, bool)>;

/// Plays events, each so long after the one before and so late, and lets time pass to the end.
fn play(rule: &Arc<Rule>, events: &[(i64, i64, &'static str, u8)], tail: i64) -> Told {
    let mut tracker = Tracker::new(Arc::clone(rule), Timestamp(1_000));
    let (mut now, mut told) = (1_000, Vec::new());
    let mut next = 0_u128;
    let mut ids = |_: Timestamp| {
        next += 1;
        AlertId::from_bytes(next.to_be_bytes())
    };
    let mut out = Out::new(&mut ids);
    for (pause, late, action, group) in events {
        now += pause;
        tracker.advance(Timestamp(now), &mut out);
        let at = Timestamp(now - late);
        tracker.observe(Timestamp(now), at, &event(at.0, action, *group), &mut out);
    }
    tracker.advance(Timestamp(now + tail), &mut out);
    for (group, turn) in out.turns {
        let (at, begins) = match turn {
            Turn::Fired { at, .. } => (at, true),
            Turn::Resolved { at, .. } => (at, false),
        };
        told.push((at.0, group.values.concat(), begins));
    }
    told.sort();
    told
}

#[derive(Default)]
struct Naive {
    hits: Vec<i64>,
    all: Vec<i64>,
    pending: Option<i64>,
    firing: bool,
    gone: Option<i64>,
}

/// What a model has to know of a rule.
struct Model {
    window: i64,
    hold: i64,
    keep: i64,
    holds: fn(hits: usize, all: usize) -> bool,
}

impl Model {
    fn look(&self, naive: &mut Naive, t: i64) -> Option<bool> {
        let within = |times: &[i64]| times.iter().filter(|at| **at > t - self.window && **at <= t).count();
        let holds = (self.holds)(within(&naive.hits), within(&naive.all));
        if naive.firing {
            naive.gone = if holds { None } else { naive.gone.or(Some(t)) };
            if naive.gone.is_some_and(|gone| t >= gone + self.keep) {
                (naive.firing, naive.gone, naive.pending) = (false, None, None);
                return Some(false);
            }
            return None;
        }
        naive.pending = if holds { naive.pending.or(Some(t)) } else { None };
        if naive.pending.is_some_and(|since| t >= since + self.hold) {
            (naive.firing, naive.pending) = (true, None);
            return Some(true);
        }
        None
    }

    fn play(&self, events: &[(i64, i64, &'static str, u8)], tail: i64) -> Told {
        let mut groups = BTreeMap::<u8, Naive>::new();
        let (mut now, mut told) = (1_000, Vec::new());
        let pass = |groups: &mut BTreeMap<u8, Naive>, from: i64, to: i64, told: &mut Told| {
            for t in from + 1..=to {
                for (group, naive) in groups.iter_mut() {
                    told.extend(self.look(naive, t).map(|begins| (t, group.to_string(), begins)));
                }
            }
        };
        for (pause, late, action, group) in events {
            pass(&mut groups, now, now + pause, &mut told);
            now += pause;
            let naive = groups.entry(*group).or_default();
            naive.all.push(now - late);
            if *action == "a.hit" {
                naive.hits.push(now - late);
            }
            told.extend(self.look(naive, now).map(|begins| (now, group.to_string(), begins)));
        }
        pass(&mut groups, now, now + tail, &mut told);
        told.sort();
        told
    }
}

fn events() -> impl Strategy<Value = Vec<(i64, i64, &'static str, u8)>> {
    let action = prop_oneof![3 => Just("a.hit"), 1 => Just("a.other")];
    prop::collection::vec((0_i64..15, prop_oneof![4 => Just(0_i64), 1 => 0_i64..25], action, 0_u8..3), 0..60)
}

proptest! {
    #[test]
    fn thresholds_are_those_of_the_model(events in events(), hold in 0_i64..12, keep in 0_i64..12) {
        let rule = rule(&format!(
            "count = 3\nwindow = \"20ms\"\nfor = \"{hold}ms\"\nkeep_firing_for = \"{keep}ms\"\ngroup_by = [\"source_ip\"]"
        ));
        let model = Model { window: 20, hold, keep, holds: |hits, _| hits >= 3 };
        // What is not meant makes no group.
        let meant: Vec<_> = events.iter().filter(|(.., action, _)| *action == "a.hit").cloned().collect();
        let mut pauses = Vec::new();
        let mut pause = 0;
        for event in &events {
            pause += event.0;
            if event.2 == "a.hit" {
                pauses.push((pause, event.1, event.2, event.3));
                pause = 0;
            }
        }
        prop_assert_eq!(meant.len(), pauses.len());
        prop_assert_eq!(play(&rule, &pauses, 100), model.play(&pauses, 100));
    }

    #[test]
    fn ratios_are_those_of_the_model(events in events(), hold in 0_i64..12, keep in 0_i64..12) {
        let rule = rule(&format!(
            "kind = \"ratio\"\nof = {{}}\nratio = 0.5\nmin_total = 3\nwindow = \"20ms\"\nfor = \"{hold}ms\"\n\
             keep_firing_for = \"{keep}ms\"\ngroup_by = [\"source_ip\"]"
        ));
        let model = Model { window: 20, hold, keep, holds: |hits, all| all >= 3 && hits * 2 >= all };
        prop_assert_eq!(play(&rule, &events, 100), model.play(&events, 100));
    }

    #[test]
    fn rates_are_those_of_the_model(events in events()) {
        let rule = rule("kind = \"rate\"\nper_second = 200.0\nwindow = \"20ms\"\ngroup_by = [\"source_ip\"]");
        let model = Model { window: 20, hold: 0, keep: 0, holds: |hits, _| hits >= 4 };
        let only: Vec<_> = events.into_iter().map(|(pause, late, _, group)| (pause, late, "a.hit", group)).collect();
        prop_assert_eq!(play(&rule, &only, 100), model.play(&only, 100));
    }

    #[test]
    fn absences_begin_where_nothing_came_and_end_with_what_comes(
        pauses in prop::collection::vec(0_i64..60, 1..40),
    ) {
        let rule = rule("kind = \"absence\"\nwindow = \"20ms\"\nmemory = \"1d\"");
        let events: Vec<_> = pauses.iter().map(|pause| (*pause, 0, "a.hit", 0)).collect();
        let mut expected = Vec::new();
        let mut now = 1_000;
        for (place, pause) in pauses.iter().enumerate() {
            if place > 0 && *pause >= 20 {
                expected.push((now + 20, String::new(), true));
                expected.push((now + pause, String::new(), false));
            }
            now += pause;
        }
        expected.push((now + 20, String::new(), true));
        expected.sort();
        prop_assert_eq!(play(&rule, &events, 20), expected);
        prop_assert_eq!(play(&rule, &events, 19).len() % 2, 0);
    }

    #[test]
    fn what_is_new_is_told_once_as_long_as_it_is_remembered(
        seen in prop::collection::vec((0_i64..200, 0_u8..4), 1..60),
    ) {
        let rule = rule(
            "kind = \"first_seen\"\nmemory = \"300ms\"\nkeep_firing_for = \"10ms\"\ngroup_by = [\"source_ip\"]",
        );
        let events: Vec<_> = seen.iter().map(|(pause, group)| (*pause, 0, "a.hit", *group)).collect();
        // A group that is seen all the time is noted each 300/32 ms only.
        let (mut last, mut now, mut expected) = (BTreeMap::<u8, i64>::new(), 1_000, Vec::new());
        for (pause, group) in &seen {
            now += pause;
            match last.get(group).copied() {
                Some(at) if now < at + 300 => {
                    if now >= at + 300 / 32 {
                        last.insert(*group, now);
                    }
                }
                _ => {
                    expected.push((now, group.to_string(), true));
                    expected.push((now + 10, group.to_string(), false));
                    last.insert(*group, now);
                }
            }
        }
        expected.sort();
        prop_assert_eq!(play(&rule, &events, 1_000), expected);
    }

    /// Another home takes a tracker up from its rows, in the middle of anything.
    #[test]
    fn a_tracker_that_is_put_back_goes_on_as_if_nothing_had_been(events in events(), cut in 0_usize..60) {
        let rule = rule("count = 3\nwindow = \"20ms\"\nfor = \"5ms\"\nkeep_firing_for = \"7ms\"\ngroup_by = [\"source_ip\"]");
        let whole = play(&rule, &events, 100);
        let mut next = 0_u128;
        let mut ids = |_: Timestamp| {
            next += 1;
            AlertId::from_bytes(next.to_be_bytes())
        };
        let mut out = Out::new(&mut ids);
        let mut tracker = Tracker::new(Arc::clone(&rule), Timestamp(1_000));
        // What is stored is what was touched.
        let mut rows = BTreeMap::<Key, Group>::new();
        let mut now = 1_000;
        for (place, (pause, late, action, group)) in events.iter().enumerate() {
            now += pause;
            tracker.advance(Timestamp(now), &mut out);
            let at = Timestamp(now - late);
            tracker.observe(Timestamp(now), at, &event(at.0, action, *group), &mut out);
            for key in std::mem::take(&mut out.touched) {
                match tracker.group(&key) {
                    Some(group) => rows.insert(key, group.clone()),
                    None => rows.remove(&key),
                };
            }
            if place == cut {
                tracker = Tracker::new(Arc::clone(&rule), Timestamp(now));
                for group in rows.values() {
                    let json = serde_json::to_string(group).unwrap();
                    tracker.restore(serde_json::from_str(&json).unwrap(), Timestamp(now));
                }
            }
        }
        tracker.advance(Timestamp(now + 100), &mut out);
        let mut told: Told = out
            .turns
            .into_iter()
            .map(|(group, turn)| match turn {
                Turn::Fired { at, .. } => (at.0, group.values.concat(), true),
                Turn::Resolved { at, .. } => (at.0, group.values.concat(), false),
            })
            .collect();
        told.sort();
        prop_assert_eq!(told, whole);
    }
}

#[test]
fn groups_beyond_the_most_are_counted_together_and_told() {
    let rule = rule("count = 5\nwindow = \"20ms\"\ngroup_by = [\"source_ip\"]\nmax_groups = 2");
    let events: Vec<_> = (0..10).map(|group| (0, 0, "a.hit", group)).collect();
    let mut tracker = Tracker::new(rule, Timestamp(0));
    let mut ids = |_: Timestamp| AlertId::from_bytes([1; 16]);
    let mut out = Out::new(&mut ids);
    for (.., action, group) in &events {
        tracker.observe(Timestamp(0), Timestamp(0), &event(0, action, *group), &mut out);
    }
    assert_eq!(tracker.groups.len(), 3);
    let fired: Vec<_> = out.turns.iter().map(|(group, _)| group.overflow).collect();
    assert_eq!(fired, [true], "the two groups have one event each");
}

#[test]
fn an_alert_that_is_ended_by_hand_begins_anew_only_with_new_events() {
    let rule = rule("count = 2\nwindow = \"20ms\"\nmanual_resolve = true");
    let mut tracker = Tracker::new(rule, Timestamp(0));
    let mut next = 0_u128;
    let mut ids = |_: Timestamp| {
        next += 1;
        AlertId::from_bytes(next.to_be_bytes())
    };
    let mut out = Out::new(&mut ids);
    let hit = |tracker: &mut Tracker, at: i64, out: &mut Out<'_>| {
        tracker.advance(Timestamp(at), out);
        tracker.observe(Timestamp(at), Timestamp(at), &event(at, "a.hit", 0), out);
    };
    hit(&mut tracker, 1, &mut out);
    hit(&mut tracker, 2, &mut out);
    tracker.advance(Timestamp(500), &mut out);
    assert_eq!(out.turns.len(), 1, "it stays");
    tracker.end(&Vec::new(), Timestamp(501), crate::group::BY_HAND, &mut out);
    hit(&mut tracker, 502, &mut out);
    assert_eq!(out.turns.len(), 2);
    hit(&mut tracker, 503, &mut out);
    assert_eq!(out.turns.len(), 3, "it began again");
}
