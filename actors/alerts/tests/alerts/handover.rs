//! Homes that die in the middle of anything.

use std::collections::BTreeSet;

use aesp_alerts::Status;

use crate::fixture::{World, config, receiver, until};

const RULE: &str = "[[rules]]\nname = \"tries\"\ncount = 5\nwindow = \"1h\"\ngroup_by = [\"source_ip\"]\n\
    events = { actions = [\"door.knock\"] }\n";

/// Each event is counted once, whichever home counts it, and each alert has one key.
#[tokio::test(flavor = "multi_thread")]
async fn another_home_goes_on_without_losing_or_doubling_an_alert() {
    let (world, (target, inside)) = (World::new().await, receiver().await);
    let config = config(vec![crate::webhook::webhook("a", &target, &world.secret("s"))]);
    let mut running = world.start(1, &config).await;
    world.apply(&running, RULE).await;
    let addresses: Vec<String> = (0..6).map(|n| format!("192.0.2.{n}")).collect();
    for round in 0..5_u64 {
        for address in &addresses {
            world.log("door.knock", address, 1).await;
        }
        running.look().await;
        // It dies without a word, and another has its shards.
        running = world.start(round + 2, &config).await;
    }
    running.look().await;
    let listed = world.alerts(Status::Any).await;
    assert_eq!(listed.len(), addresses.len(), "{listed:?}");
    assert!(listed.iter().all(|one| one.alert.value == "5"), "{listed:?}");
    assert_eq!(world.recorded("alert.fired").await, addresses.len());
    let keys = || -> BTreeSet<String> {
        let alerts = inside.bodies().into_iter().flat_map(|body| body["alerts"].as_array().unwrap().clone());
        alerts.map(|alert| alert["dedup_key"].as_str().unwrap().to_owned()).collect()
    };
    until("each is told", async || keys().len() == addresses.len()).await;

    // A home that is over has no say any more.
    let old = world.start(100, &config).await;
    let new = world.start(101, &config).await;
    world.log("door.knock", "198.51.100.1", 5).await;
    new.look().await;
    assert_eq!(world.recorded("alert.fired").await, addresses.len() + 1);
    drop(old);
}
