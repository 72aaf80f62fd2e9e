use aesp_alerts::{Outcome, Status};

use crate::fixture::{TENANT, World, config, receiver, until};

const LONG: &str = "[[rules]]\nname = \"tries\"\ncount = 1\nwindow = \"1h\"\ngroup_by = [\"source_ip\"]\n\
    events = { actions = [\"door.knock\"] }\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_delays_itself_alone_and_is_told_when_it_can_be() {
    let world = World::new().await;
    let ((blocked, inside), (other, outside)) = (receiver().await, receiver().await);
    inside.answer(503);
    let secret = world.secret("s");
    let hooks =
        vec![crate::webhook::webhook("a", &blocked, &secret), crate::webhook::webhook("b", &other, &secret)];
    let running = world.start(1, &config(hooks)).await;
    world.apply(&running, LONG).await;
    world.log("door.knock", "192.0.2.1", 1).await;
    running.look().await;
    until("the other is told", async || outside.bodies().len() == 1).await;
    until("the failure is on record", async || world.deliveries(Outcome::Failed).await.len() == 1).await;
    let failed = world.deliveries(Outcome::Failed).await;
    assert_eq!((failed[0].receiver.as_str(), failed[0].cause.as_str()), ("a", "busy"));
    inside.answer(200);
    until("it is told after all", async || inside.bodies().len() == 1).await;
    until("that is on record", async || world.deliveries(Outcome::Delivered).await.len() == 2).await;
    assert_eq!(world.recorded("alert.delivery_failed").await, 1, "however often it was tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_does_not_understand_is_a_dead_letter_and_what_follows_goes_on() {
    let (world, (target, inside)) = (World::new().await, receiver().await);
    inside.answer(400);
    let running =
        world.start(1, &config(vec![crate::webhook::webhook("a", &target, &world.secret("s"))])).await;
    world.apply(&running, LONG).await;
    world.log("door.knock", "192.0.2.1", 1).await;
    running.look().await;
    until("it is put aside", async || world.deliveries(Outcome::Dead).await.len() == 1).await;
    let dead = world.deliveries(Outcome::Dead).await;
    assert!(dead[0].why.contains("400: said the receiver"), "{dead:?}");
    inside.answer(200);
    world.log("door.knock", "192.0.2.2", 1).await;
    running.look().await;
    until("the next is told", async || inside.bodies().len() == 1).await;
    assert_eq!(world.alerts(Status::Firing).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_name_only_receivers_that_there_are() {
    let world = World::new().await;
    let running = world.start(1, &config(Vec::new())).await;
    let named = format!("{LONG}receivers = [\"nobody\"]\n");
    let error = running.alerts.check(TENANT, named).await.unwrap_err();
    assert!(error.to_string().contains("receiver `nobody`: there is no such receiver"), "{error}");
    // Without any, alerts are found and recorded all the same.
    world.apply(&running, LONG).await;
    world.log("door.knock", "192.0.2.1", 1).await;
    running.look().await;
    assert_eq!(world.alerts(Status::Firing).await.len(), 1);
}
