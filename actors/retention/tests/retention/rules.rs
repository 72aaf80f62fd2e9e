use aesp_audit::Filter;
use aesp_proto::Clock;
use aesp_retention::{Error, Limits, NewPolicy, NewRule, partitions, policy, set_policy, wanted_version};

use crate::world::{BOSS, World};

fn rule(name: &str, days: u32) -> NewRule {
    NewRule { name: name.into(), event_types: vec!["TOOL_INVOCATION".into()], days, ..NewRule::default() }
}

#[tokio::test]
async fn new_events_follow_new_rules_at_once_and_old_classes_the_days_of_now() {
    let world = World::new().await;
    world.record(1).await;
    assert_eq!(world.set(vec![rule("calls", 10)], Some(365)).await.unwrap(), 1);
    world.record(1).await;
    assert_eq!(world.set(vec![rule("kept", 100)], Some(365)).await.unwrap(), 2);
    world.record(1).await;
    // The class is gone from the rules and comes back with another length.
    assert_eq!(world.set(vec![rule("calls", 20)], None).await.unwrap(), 3);
    let (tenant, now) = (world.tenant, world.clock.now());
    let found = world
        .run(move |tx| {
            Box::pin(async move {
                let limits = Limits { default_days: 700, ..Limits::default() };
                let partitions = partitions(tx, tenant, &limits, now).await?;
                Ok((partitions, policy(tx, tenant).await?, wanted_version(tx, tenant, 1).await?))
            })
        })
        .await
        .unwrap();
    let (partitions, policy, first) = found;
    let days = |ms: i64| ms / 86_400_000;
    let seen: Vec<_> = partitions
        .iter()
        .map(|one| {
            let (period, until) = (one.partition.period, one.until.unwrap());
            (one.class.as_str(), period.days, days(until.0 - period.end().0))
        })
        .collect();
    assert_eq!(seen, [("standard", 30, 700), ("calls", 1, 20), ("kept", 30, 100)]);
    assert_eq!((policy.version, policy.rules[0].class), (3, 1), "a class keeps its number");
    assert_eq!((first.version, first.classes[&1].days), (1, 10));
    assert!(
        world.events(Filter::default()).await.iter().all(|event| !event.metadata.contains_key("aesp.sealed"))
    );
    assert!(world.verified().await.trusted);
}

#[tokio::test]
async fn rules_that_can_not_be_are_refused() {
    let world = World::new().await;
    let refused =
        async |rules: Vec<NewRule>, standard: Option<u32>, part: &str| match world.set(rules, standard).await
        {
            Err(Error::Invalid(text)) => assert!(text.contains(part), "{text}"),
            other => panic!("{part}: {other:?}"),
        };
    refused(vec![rule("", 1)], None, "the name of a rule").await;
    refused(vec![rule("Calls", 1)], None, "the name of a rule").await;
    refused(vec![rule("standard", 1)], None, "standard_days").await;
    refused(vec![rule("a", 1), rule("a", 2)], None, "different days").await;
    refused(vec![rule("a", 99_999)], None, "at most").await;
    refused(vec![], Some(99_999), "at most").await;
    refused(vec![NewRule { event_types: vec!["NONE".into()], ..rule("a", 1) }], None, "event type").await;
    refused(vec![NewRule { classifications: vec!["SECRET".into()], ..rule("a", 1) }], None, "classification")
        .await;
    refused((0..40).map(|n| rule(&format!("r{n}"), 1)).collect(), None, "at most 32 rules").await;

    let limits = Limits { default_days: 0, minimum_days: 30, maximum_days: 3_650 };
    limits.check().unwrap_err();
    let limits = Limits { default_days: 365, ..limits };
    limits.check().unwrap();
    let (tenant, now) = (world.tenant, world.clock.now());
    let set = |days: u32, expected: u64| {
        world.run(move |tx| {
            let new = NewPolicy { rules: vec![rule("calls", days)], standard_days: None };
            Box::pin(async move { set_policy(tx, tenant, &new, &limits, expected, (BOSS, now)).await })
        })
    };
    for days in [0, 29, 3_651] {
        assert!(matches!(set(days, 0).await, Err(Error::Invalid(_))), "{days} days");
    }
    assert_eq!(set(30, 0).await.unwrap().version, 1);
    assert!(matches!(set(31, 7).await, Err(Error::Changed(1))));
    assert_eq!(set(31, 1).await.unwrap().version, 2);
}
