//! Against oteltap, a receiver of OpenTelemetry.

use std::{fs, process::Command};

use aesp_sinks::Kind;
use serde_json::Value;

use crate::{
    fixture::{TENANT, World, sink, until, until_cause},
    peers::{Peer, free_ports, program},
    raw::{Deed, Raw},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_understands_the_records() {
    let Some(program) = program("AESP_OTELTAP_BIN", "oteltap", "oteltap") else { return };
    let world = World::new().await;
    let [port] = free_ports();
    let log = world.folder.path().join("log");
    let mut command = Command::new(program);
    command.arg("--port").arg(port.to_string()).env("PYTHONUNBUFFERED", "1");
    let _peer = Peer::start(&mut command, &log);
    let running = world.start(&[sink(Kind::Otlp, format!("http://127.0.0.1:{port}"))], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 3).await;
    until("all have come", async || {
        let text = fs::read_to_string(&log).unwrap();
        sent.iter().all(|id| text.contains(id))
    })
    .await;
    let text = fs::read_to_string(&log).unwrap();
    let line = text.lines().find(|line| line.contains(&sent[0])).unwrap();
    for part in ["tool.0", "informational", "aesp.event_type", "TOOL_INVOCATION", "aesp.event_id"] {
        assert!(text.contains(part), "{part} in {line}");
    }
    assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_rejects_a_record_does_not_say_which_and_it_is_found() {
    let world = World::new().await;
    // ExportLogsServiceResponse { partial_success { rejected_log_records: 1, error_message: "no" } }
    let rejected = "\n\u{6}\u{8}\u{1}\u{12}\u{2}no";
    let raw = Raw::start(
        vec![Deed::status("200 OK", "", rejected), Deed::status("200 OK", "", rejected)],
        Deed::status("200 OK", "", ""),
    )
    .await;
    let mut config = sink(Kind::Otlp, format!("http://127.0.0.1:{}/otel", raw.port));
    config.batch_events = 2;
    config.batch_ms = 1_000;
    let running = world.start(&[config], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 2).await;
    until("it is put aside", async || running.sinks.own_report("soc").unwrap().refused == 1).await;
    until("the other is taken", async || running.sinks.own_report("soc").unwrap().taken >= 1).await;
    let dead = running.sinks.dead_letters("soc", TENANT, None, 10).await.unwrap();
    assert_eq!(dead[0].event.to_string(), sent[0]);
    assert!(dead[0].why.contains("1 records rejected: no"), "{}", dead[0].why);
    assert!(raw.asked()[0].head.starts_with("POST /otel/v1/logs "));
    until_cause(&running, "").await;
}
