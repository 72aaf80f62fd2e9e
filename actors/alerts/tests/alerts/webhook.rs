use aesp_alerts::{Outcome, Receiver, ReceiverKind, Status};

use crate::fixture::{World, config, receiver, until};

pub(crate) fn webhook(name: &str, target: &str, secret: &str) -> Receiver {
    Receiver {
        name: name.into(),
        kind: ReceiverKind::Webhook,
        target: target.into(),
        secret: Some(secret.parse().unwrap()),
        ..Receiver::default()
    }
}

pub(crate) const KNOCKS: &str = "[[rules]]\nname = \"tries\"\nseverity = \"high\"\nevents = { actions = [\"door.knock\"] }\n\
    count = 3\nwindow = \"2s\"\ngroup_by = [\"source_ip\"]\n\
    annotations = { summary = \"{value} knocks from {source_ip}\" }\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_and_its_end_are_told_signed_and_recorded() {
    let (world, (target, inside)) = (World::new().await, receiver().await);
    let running =
        world.start(1, &config(vec![webhook("soc", &target, &world.secret("canary-of-the-hook"))])).await;
    world.apply(&running, KNOCKS).await;
    world.log("door.knock", "192.0.2.1", 2).await;
    running.look().await;
    assert!(world.alerts(Status::Any).await.is_empty());
    world.log("door.knock", "192.0.2.1", 1).await;
    world.log("door.knock", "192.0.2.2", 2).await;
    running.look().await;
    let listed = world.alerts(Status::Any).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].alert.value.as_str(), listed[0].alert.events.len()), ("3", 3));
    until("it is told that it began", async || !inside.bodies().is_empty()).await;
    let (_, headers, body) = inside.came.lock().unwrap()[0].clone();
    let alert = &body["alerts"][0];
    assert_eq!((&alert["told"], &alert["status"]), (&"fired".into(), &"firing".into()), "{body}");
    assert_eq!(alert["annotations"]["summary"], "3 knocks from 192.0.2.1");
    assert_eq!(alert["labels"]["source_ip"], "192.0.2.1");
    assert!(headers["webhook-signature"].to_str().unwrap().starts_with("v1,"), "{headers:?}");

    // Time alone ends it.
    until("it is told that it ended", async || inside.bodies().len() == 2).await;
    let body = inside.bodies()[1].clone();
    assert_eq!((&body["alerts"][0]["told"], &body["alerts"][0]["id"]), (&"resolved".into(), &alert["id"]));
    until("both are on record", async || world.deliveries(Outcome::Delivered).await.len() == 2).await;
    assert!(world.alerts(Status::Firing).await.is_empty());
    let counts = ["alert.fired", "alert.resolved", "alert.delivered", "alert.delivery_failed"];
    let mut recorded = Vec::new();
    for action in counts {
        recorded.push(world.recorded(action).await);
    }
    assert_eq!(recorded, [1, 1, 2, 0]);

    // What the duties put on record feeds no rule.
    world.apply(&running, "[[rules]]\nname = \"any\"\ncount = 1\nwindow = \"1d\"\n[builtin.failed-authentications]\nenabled = false").await;
    world.log("door.knock", "192.0.2.3", 1).await;
    running.look().await;
    running.look().await;
    assert_eq!(world.alerts(Status::Firing).await.len(), 1);
    assert_eq!(world.recorded("alert.fired").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_tried_with_a_made_up_alert() {
    let (world, (target, inside)) = (World::new().await, receiver().await);
    let running = world.start(1, &config(vec![webhook("soc", &target, &world.secret("s"))])).await;
    let by = aesp_proto::PrincipalId::from_bytes([7; 16]);
    let told = running.alerts.try_receiver("soc", by).await.unwrap();
    assert!(told.trouble.is_none() && inside.bodies().len() == 2, "{told:?}");
    inside.answer(403);
    let told = running.alerts.try_receiver("soc", by).await.unwrap();
    let (cause, why) = told.trouble.unwrap();
    assert!(cause.name() == "refused" && why.contains("403: said the receiver"), "{why}");
    assert!(running.alerts.try_receiver("nobody", by).await.is_err());
}
