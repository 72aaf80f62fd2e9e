//! What people change while alerts are at work.

use std::time::Duration;

use aesp_alerts::{Acknowledgement, SilenceDraft, Status, acknowledge, expire_silence, silence};
use aesp_proto::{Clock, PrincipalId, SilenceId, SystemClock};

use crate::fixture::{TENANT, World, config, receiver, until};

const BY: PrincipalId = PrincipalId::from_bytes([7; 16]);

fn rule(more: &str) -> String {
    format!(
        "[[rules]]\nname = \"tries\"\ncount = 1\nwindow = \"1h\"\ngroup_by = [\"source_ip\"]\n\
         events = {{ actions = [\"door.knock\"] }}\n{more}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_what_is_silenced_until_the_silence_ends() {
    let (world, (target, inside)) = (World::new().await, receiver().await);
    let running =
        world.start(1, &config(vec![crate::webhook::webhook("a", &target, &world.secret("s"))])).await;
    world.apply(&running, &rule("")).await;
    let id = SilenceId::timed(SystemClock.now(), &world.entropy);
    let draft = SilenceDraft {
        id,
        matchers: vec!["alertname=tries".parse().unwrap(), "source_ip!=192.0.2.2".parse().unwrap()],
        until: SystemClock.now().plus(Duration::from_secs(3_600)),
        reason: "a test".into(),
    };
    let begun = world.store.run(move |tx| {
        let draft = draft.clone();
        Box::pin(async move { silence(tx, TENANT, &draft, (BY, SystemClock.now())).await })
    });
    begun.await.unwrap();
    world.log("door.knock", "192.0.2.1", 1).await;
    world.log("door.knock", "192.0.2.2", 1).await;
    running.look().await;
    until("one is told", async || !inside.bodies().is_empty()).await;
    let alerts = inside.bodies()[0]["alerts"].as_array().unwrap().clone();
    assert_eq!((alerts.len(), &alerts[0]["labels"]["source_ip"]), (1, &"192.0.2.2".into()), "{alerts:?}");
    let listed = world.alerts(Status::Firing).await;
    assert_eq!(listed.iter().filter(|one| one.silenced_until.is_some()).count(), 1);
    let ended = world
        .store
        .run(move |tx| Box::pin(async move { expire_silence(tx, TENANT, id, SystemClock.now()).await }));
    ended.await.unwrap();
    running.look().await;
    until("the other is told, too", async || inside.bodies().len() == 2).await;
    let told = inside.bodies()[1]["alerts"].to_string();
    assert!(told.contains("192.0.2.1\"") && told.contains("\"fired\""), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_nobody_acknowledges_is_told_to_others_and_whom_somebody_does_is_not() {
    let world = World::new().await;
    let ((first, inside), (second, outside)) = (receiver().await, receiver().await);
    let secret = world.secret("s");
    let hooks = vec![
        crate::webhook::webhook("first", &first, &secret),
        crate::webhook::webhook("second", &second, &secret),
    ];
    let running = world.start(1, &config(hooks)).await;
    world
        .apply(
            &running,
            &rule("receivers = [\"first\"]\nescalate = [{ after = \"2s\", receivers = [\"second\"] }]\n"),
        )
        .await;
    world.log("door.knock", "192.0.2.1", 1).await;
    world.log("door.knock", "192.0.2.2", 1).await;
    running.look().await;
    let listed = world.alerts(Status::Firing).await;
    let id = listed.iter().find(|one| one.alert.labels["source_ip"] == "192.0.2.2").unwrap().alert.id;
    let said = Acknowledgement { by: BY, at: SystemClock.now(), note: String::new(), resolve: false };
    let done = world.store.run(move |tx| {
        let said = said.clone();
        Box::pin(async move { acknowledge(tx, TENANT, id, &said).await })
    });
    done.await.unwrap();
    running.look().await;
    until("the second is told", async || !outside.bodies().is_empty()).await;
    let told = outside.bodies()[0]["alerts"].as_array().unwrap().clone();
    assert_eq!((told.len(), &told[0]["labels"]["source_ip"]), (1, &"192.0.2.1".into()), "{told:?}");
    assert!(!inside.bodies().is_empty());
    assert_eq!(world.recorded("alert.escalated").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_ends_with_its_rule_and_not_with_a_change_of_its_texts() {
    let world = World::new().await;
    let running = world.start(1, &config(Vec::new())).await;
    world.apply(&running, &rule("")).await;
    world.log("door.knock", "192.0.2.1", 1).await;
    running.look().await;
    world.apply(&running, &rule("severity = \"critical\"\n")).await;
    running.look().await;
    assert_eq!(world.alerts(Status::Firing).await.len(), 1);
    world.apply(&running, "").await;
    running.look().await;
    let over = world.alerts(Status::Resolved).await;
    assert_eq!(over.len(), 1);
    assert!(over[0].alert.ended_because.contains("changed, switched off or removed"), "{over:?}");
    assert_eq!(world.recorded("alert.resolved").await, 1);
}
