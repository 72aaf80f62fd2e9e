//! A stub of PagerDuty's Events API v2, after its published interface: no such service can be had.

use aesp_alerts::{Acknowledgement, Receiver, ReceiverKind, Status, acknowledge};
use aesp_proto::{Clock, PrincipalId, SystemClock};

use crate::fixture::{TENANT, World, config, receiver, until};

#[tokio::test(flavor = "multi_thread")]
async fn one_incident_is_triggered_acknowledged_and_resolved() {
    let (world, (target, stub)) = (World::new().await, receiver().await);
    stub.answer(202);
    let duty = Receiver {
        name: "duty".into(),
        kind: ReceiverKind::Pagerduty,
        target,
        secret: Some(world.secret("R0UT1NG").parse().unwrap()),
        ..Receiver::default()
    };
    let running = world.start(1, &config(vec![duty])).await;
    world
        .apply(
            &running,
            "[[rules]]\nname = \"tries\"\nseverity = \"critical\"\ncount = 1\nwindow = \"1h\"\n\
        manual_resolve = true\nevents = { actions = [\"door.knock\"] }\n",
        )
        .await;
    world.log("door.knock", "192.0.2.1", 1).await;
    running.look().await;
    until("it is triggered", async || stub.bodies().len() == 1).await;
    let (path, _, event) = stub.came.lock().unwrap()[0].clone();
    assert_eq!(path, "/v2/enqueue");
    assert_eq!((&event["event_action"], &event["routing_key"]), (&"trigger".into(), &"R0UT1NG".into()));
    let payload = &event["payload"];
    assert_eq!((&payload["severity"], &payload["source"]), (&"critical".into(), &"aesp:node-1".into()));
    assert!(
        payload["summary"] == "tries" && payload["timestamp"].as_str().unwrap().ends_with('Z'),
        "{event}"
    );
    let id = world.alerts(Status::Firing).await[0].alert.id;
    for (resolve, action) in [(false, "acknowledge"), (true, "resolve")] {
        let said = Acknowledgement {
            by: PrincipalId::from_bytes([7; 16]),
            at: SystemClock.now(),
            note: "on it".into(),
            resolve,
        };
        let done = world.store.run(move |tx| {
            let said = said.clone();
            Box::pin(async move { acknowledge(tx, TENANT, id, &said).await })
        });
        done.await.unwrap();
        running.look().await;
        let last = || stub.bodies().last().cloned().unwrap();
        until(action, async || last()["event_action"] == action).await;
        assert_eq!(last()["dedup_key"], event["dedup_key"]);
    }
    // What was ended by hand begins anew, under the same key.
    world.log("door.knock", "192.0.2.1", 1).await;
    running.look().await;
    until("it is triggered again", async || stub.bodies().len() == 4).await;
    assert_eq!(stub.bodies()[3]["dedup_key"], event["dedup_key"]);
}
