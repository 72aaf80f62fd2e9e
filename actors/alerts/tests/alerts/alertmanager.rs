use std::{fs, process::Command};

use aesp_alerts::{Receiver, ReceiverKind};
use serde_json::Value;

use crate::{
    fixture::{World, config, receiver, until},
    peers::{Peer, free_ports, program},
};

/// Alertmanager itself, which tells a webhook at once.
#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_takes_an_alert_and_its_end_and_tells_its_own_receivers() {
    let Some(alertmanager) = program("AESP_ALERTMANAGER_BIN", "alertmanager", "prometheus-alertmanager")
    else {
        return;
    };
    let (world, (target, inside)) = (World::new().await, receiver().await);
    let folder = world.folder.path();
    let text = format!(
        "route:\n  receiver: hook\n  group_by: [alertname, source_ip]\n  group_wait: 0s\n  group_interval: 1s\n\
         receivers:\n- name: hook\n  webhook_configs:\n  - url: {target}/told\n    send_resolved: true\n"
    );
    fs::write(folder.join("am.yml"), text).unwrap();
    let [port] = free_ports();
    let mut command = Command::new(alertmanager);
    command
        .arg(format!("--config.file={}", folder.join("am.yml").display()))
        .arg(format!("--storage.path={}", folder.join("am").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=");
    let _peer = Peer::start(&mut command, &folder.join("am.log"));
    let receiver = Receiver {
        name: "ops".into(),
        kind: ReceiverKind::Alertmanager,
        target: format!("http://127.0.0.1:{port}"),
        ..Receiver::default()
    };
    let running = world.start(1, &config(vec![receiver])).await;
    world.apply(&running, crate::webhook::KNOCKS).await;
    world.log("door.knock", "192.0.2.1", 3).await;
    running.look().await;
    let of = |status: &str| -> Vec<Value> {
        let bodies = inside.bodies().into_iter().flat_map(|body| body["alerts"].as_array().unwrap().clone());
        bodies.filter(|alert| alert["status"] == status).collect()
    };
    until("Alertmanager's own receiver hears that it began", async || !of("firing").is_empty()).await;
    let fired = of("firing")[0].clone();
    assert_eq!(fired["labels"]["alertname"], "tries", "{fired}");
    assert_eq!(fired["labels"]["severity"], "high");
    assert_eq!(fired["labels"]["source_ip"], "192.0.2.1");
    assert_eq!(fired["annotations"]["summary"], "3 knocks from 192.0.2.1");
    until("and that it ended", async || !of("resolved").is_empty()).await;
    assert_eq!(of("resolved")[0]["fingerprint"], fired["fingerprint"], "it is the same alert");
}
