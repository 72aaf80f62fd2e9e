//! Audit events that three real nodes send to one sink, while nodes are killed and the sink fails.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use aesp_sdk::v1;
use aesp_tests::{Host, Trio, balanced, command::json_of, until};
use anyhow::ensure;
use axum::{Router, extract::State, http::StatusCode, routing::post};
use serde_json::Value;
use tokio::{net::TcpListener, process::Command};

/// What the sink has, and whether it takes anything.
#[derive(Default)]
struct Inside {
    ids: Mutex<BTreeSet<String>>,
    full: AtomicBool,
}

async fn take(State(inside): State<Arc<Inside>>, body: String) -> StatusCode {
    if inside.full.load(Ordering::SeqCst) {
        return StatusCode::INSUFFICIENT_STORAGE;
    }
    let events: Value = serde_json::from_str(&body).unwrap();
    let ids = events["events"].as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap());
    inside.ids.lock().unwrap().extend(ids.map(str::to_owned));
    StatusCode::OK
}

async fn receiver() -> (u16, Arc<Inside>) {
    let inside = Arc::<Inside>::default();
    let routes = Router::new().route("/", post(take)).with_state(Arc::clone(&inside));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (port, inside)
}

fn aesp(host: &Host, arguments: &[&str]) -> Command {
    let mut command = host.command();
    command.env("AESP_API_KEY", host.administrator_key()).args(["--output", "json"]).args(arguments);
    command
}

/// Waits until the sink has whatever is in the tenant's log now.
async fn has_all(trio: &Trio, inside: &Inside) {
    let logged = trio.acme.events(v1::QueryEventsRequest::default()).await.unwrap();
    assert!(!logged.is_empty() && logged.len() < 1_000, "all of them are looked at");
    until("the sink has every event of the tenant", async || {
        let ids = inside.ids.lock().unwrap();
        let missing = logged.iter().filter(|event| !ids.contains(&event.event_id)).count();
        ensure!(missing == 0, "{missing} of {} are missing", logged.len());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn every_event_comes_though_nodes_die_and_the_sink_fails() {
    let (port, inside) = receiver().await;
    let mut trio = Trio::new().await.unwrap();
    let secret = trio.site.folder().join("hook.secret");
    fs::write(&secret, "canary-of-the-hook").unwrap();
    let mut config = fs::OpenOptions::new().append(true).open(trio.site.config()).unwrap();
    let section = format!(
        "\n[[audit.sinks]]\nname = \"soc\"\nkind = \"webhook\"\nstart = \"beginning\"\nbatch_ms = 50\n\
         target = \"http://127.0.0.1:{port}/\"\nsecret = \"file:{}\"\n",
        secret.display()
    );
    config.write_all(section.as_bytes()).unwrap();
    for node in &mut trio.nodes {
        node.process().stop().await.unwrap();
        node.restart().await.unwrap();
    }
    balanced(&trio.administrator, 3).await.unwrap();
    trio.session(0).await.unwrap();
    has_all(&trio, &inside).await;

    // A node dies: the tenant's home is where it is, and each node has its part of the others'.
    trio.nodes[2].process().kill().await.unwrap();
    for node in [0, 1, 0, 1] {
        trio.session(node).await.unwrap();
    }
    has_all(&trio, &inside).await;
    trio.nodes[2].restart().await.unwrap();

    // The sink is full: whoever asks hears of it, calls go on, and everything comes when it has room again.
    inside.full.store(true, Ordering::SeqCst);
    trio.session(1).await.unwrap();
    until("its trouble is shown", async || {
        let shown = json_of(aesp(&trio.nodes[0], &["audit", "sink", "status", "soc"])).await?;
        let trouble = shown["trouble"].as_str().unwrap_or_default();
        ensure!(trouble.starts_with("busy: HTTP status 507"), "{shown}");
        Ok(())
    })
    .await
    .unwrap();
    let mut refused = aesp(&trio.nodes[0], &["audit", "sink", "test", "soc"]);
    let refused = refused.output().await.unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("507"), "{refused:?}");
    inside.full.store(false, Ordering::SeqCst);
    has_all(&trio, &inside).await;
    let tested = json_of(aesp(&trio.nodes[1], &["audit", "sink", "test", "soc"])).await.unwrap();
    assert_eq!(tested["taken"], true, "{tested}");
    assert!(inside.ids.lock().unwrap().contains(tested["event_id"].as_str().unwrap()));
    let listed = json_of(aesp(&trio.nodes[1], &["audit", "sink", "list"])).await.unwrap();
    assert_eq!(listed["sinks"][0]["name"], "soc", "{listed}");
    assert!(!listed.to_string().contains("canary-of-the-hook"), "{listed}");
    let dead = json_of(aesp(&trio.nodes[1], &["audit", "sink", "dead-letters", "soc"])).await.unwrap();
    assert!(dead["dead_letters"].as_array().is_none_or(Vec::is_empty), "{dead}");
    let again = json_of(aesp(&trio.nodes[1], &["audit", "sink", "retry", "soc"])).await.unwrap();
    assert!(again["trouble"].as_str().is_none_or(str::is_empty), "{again}");
}
