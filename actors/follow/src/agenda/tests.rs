use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

#[tokio::test(start_paused = true)]
async fn news_during_a_step_gives_another_turn() {
    let (mut agenda, now) = (Agenda::default(), Instant::now());
    agenda.news(tenant(1), Timestamp(1), now);
    agenda.news(tenant(1), Timestamp(2), now);
    assert_eq!(agenda.next(now), Some(tenant(1)));
    assert_eq!(agenda.next(now), None, "one step at a time");
    agenda.news(tenant(1), Timestamp(3), now);
    assert_eq!(agenda.oldest(), Some(Timestamp(1)));
    agenda.ended(tenant(1), Ended::Advanced(Advance::AtEnd), now);
    assert_eq!(agenda.oldest(), Some(Timestamp(3)));
    assert_eq!(agenda.next(now), Some(tenant(1)));
    agenda.ended(tenant(1), Ended::Advanced(Advance::AtEnd), now);
    assert_eq!((agenda.len(), agenda.next(now)), (0, None));
}

#[tokio::test(start_paused = true)]
async fn who_has_more_waits_behind_the_others_and_who_fails_ever_longer() {
    let (mut agenda, now) = (Agenda::default(), Instant::now());
    agenda.news(tenant(1), Timestamp(1), now);
    agenda.news(tenant(2), Timestamp(1), now);
    assert_eq!(agenda.next(now), Some(tenant(1)));
    agenda.ended(tenant(1), Ended::Advanced(Advance::More), now);
    assert_eq!(agenda.next(now), Some(tenant(2)));
    agenda.ended(tenant(2), Ended::Advanced(Advance::AtEnd), now);
    let mut pauses = Vec::new();
    let mut at = now;
    for _ in 0..12 {
        assert_eq!(agenda.next(at), Some(tenant(1)));
        agenda.ended(tenant(1), Ended::Failed, at);
        let next = agenda.next_at().unwrap();
        pauses.push(next - at);
        at = next;
    }
    assert!(pauses.is_sorted() && pauses[0] == FIRST_PAUSE && pauses[11] == LONGEST_PAUSE, "{pauses:?}");
    assert_eq!(agenda.next(at - FIRST_PAUSE), None);
}

#[derive(Clone, Debug)]
enum Step {
    News(u8),
    Start,
    End(u8, u8),
    Drop(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_u8).prop_map(Step::News),
        3 => Just(Step::Start),
        3 => (0..4_u8, 0..4_u8).prop_map(|(tenant, how)| Step::End(tenant, how)),
        1 => (0..4_u8).prop_map(Step::Drop),
    ]
}

proptest! {
    /// What was told and not looked at afterwards, is looked at: whatever happens in which order.
    #[test]
    fn no_news_is_lost(steps in prop::collection::vec(step(), 0..80)) {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let (mut told, mut running) = (BTreeMap::<TenantId, u32>::new(), BTreeMap::<TenantId, u32>::new());
        for step in steps {
            match step {
                Step::News(number) => {
                    *told.entry(tenant(number)).or_default() += 1;
                    agenda.news(tenant(number), Timestamp(0), now);
                }
                Step::Start => if let Some(next) = agenda.next(now) {
                    prop_assert!(!running.contains_key(&next), "two steps at once");
                    // It sees all that was told until now.
                    running.insert(next, told.get(&next).copied().unwrap_or_default());
                },
                Step::End(number, how) => if let Some(seen) = running.remove(&tenant(number)) {
                    let ended = match how {
                        0 => Ended::Advanced(Advance::AtEnd),
                        1 => Ended::Advanced(Advance::More),
                        2 => Ended::Advanced(Advance::Later(Duration::from_secs(1))),
                        _ => Ended::Failed,
                    };
                    if how == 0 && told.get(&tenant(number)) == Some(&seen) {
                        told.remove(&tenant(number));
                    }
                    agenda.ended(tenant(number), ended, now);
                },
                Step::Drop(number) => {
                    if !running.contains_key(&tenant(number)) {
                        told.remove(&tenant(number));
                    }
                    agenda.keep(|other| other != tenant(number));
                }
            }
        }
        let mut looked: BTreeSet<TenantId> = running.keys().copied().collect();
        for tenant in running.into_keys() {
            agenda.ended(tenant, Ended::Failed, now);
        }
        while let Some(next) = agenda.next(now + LONGEST_PAUSE) {
            looked.insert(next);
            agenda.ended(next, Ended::Advanced(Advance::AtEnd), now);
        }
        prop_assert!(told.keys().all(|tenant| looked.contains(tenant)));
        prop_assert_eq!(agenda.len(), 0);
    }
}
