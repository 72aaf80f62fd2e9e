//! Against a stub of Splunk's HTTP Event Collector, made after its published REST interface: there is no Splunk to be had.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aesp_sinks::{Config, Kind};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::fixture::{TENANT, World, sink, until, until_cause};

const TOKEN: &str = "11111111-2222-3333-4444-555555555555";

#[derive(Default)]
struct Inside {
    /// Batches that the collector has, by their number, and whether the indexer has them.
    batches: BTreeMap<u64, (Vec<Value>, bool)>,
    channels: Vec<String>,
    /// The indexer loses what it gets.
    forgets: bool,
    /// The token has no acknowledgement.
    without_ack: bool,
}

type Shared = Arc<Mutex<Inside>>;

struct Stub {
    port: u16,
    inside: Shared,
    serving: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Stub {
    async fn start() -> Self {
        let inside = Shared::default();
        let routes = Router::new()
            .route("/services/collector/event", post(event))
            .route("/services/collector/ack", post(ack))
            .with_state(Arc::clone(&inside));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { port, inside, serving }
    }

    fn config(&self, world: &World) -> Config {
        let mut config = sink(Kind::Splunk, format!("http://127.0.0.1:{}", self.port));
        config.secret = Some(world.secret(TOKEN).parse().unwrap());
        config.index = "main".into();
        config
    }

    /// Returns the ids of the events that the indexer has, each where it came first.
    fn indexed(&self) -> Vec<String> {
        let inside = self.inside.lock().unwrap();
        let mut ids = Vec::new();
        for (batch, _) in inside.batches.values().filter(|(_, indexed)| *indexed) {
            for event in batch {
                let id = event["event"]["event_id"].as_str().unwrap().to_owned();
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
        }
        ids
    }
}

type Told = (StatusCode, String);

fn check(headers: &HeaderMap) -> Result<String, Told> {
    if headers["authorization"] != format!("Splunk {TOKEN}").as_str() {
        return Err((StatusCode::FORBIDDEN, json!({ "text": "Invalid token", "code": 4 }).to_string()));
    }
    match headers.get("x-splunk-request-channel") {
        Some(channel) => Ok(channel.to_str().unwrap().to_owned()),
        None => Err((
            StatusCode::BAD_REQUEST,
            json!({ "text": "Data channel is missing", "code": 10 }).to_string(),
        )),
    }
}

async fn event(State(inside): State<Shared>, headers: HeaderMap, body: String) -> Result<String, Told> {
    let channel = check(&headers)?;
    let mut inside = inside.lock().unwrap();
    inside.channels.push(channel);
    let events = serde_json::Deserializer::from_str(&body).into_iter::<Value>();
    let events: Vec<Value> = events.collect::<Result<_, _>>().unwrap();
    if let Some(at) = events.iter().position(|event| event["event"]["action"] == "tool.refused") {
        let told = json!({ "text": "Invalid data format", "code": 6, "invalid-event-number": at });
        return Err((StatusCode::BAD_REQUEST, told.to_string()));
    }
    let id = inside.batches.len() as u64;
    let indexed = !inside.forgets;
    inside.batches.insert(id, (events, indexed));
    if inside.without_ack {
        return Ok(json!({ "text": "Success", "code": 0 }).to_string());
    }
    Ok(json!({ "text": "Success", "code": 0, "ackId": id }).to_string())
}

async fn ack(State(inside): State<Shared>, headers: HeaderMap, body: String) -> Result<String, Told> {
    check(&headers)?;
    let inside = inside.lock().unwrap();
    let asked: Value = serde_json::from_str(&body).unwrap();
    let acks = asked["acks"].as_array().unwrap().iter().map(|id| {
        let id = id.as_u64().unwrap();
        (id.to_string(), inside.batches.get(&id).is_some_and(|(_, indexed)| *indexed).into())
    });
    Ok(json!({ "acks": Value::Object(acks.collect()) }).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_settled_when_the_indexer_has_them() {
    let world = World::new().await;
    let stub = Stub::start().await;
    let running = world.start(&[stub.config(&world)], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 20).await;
    until("all are indexed", async || stub.indexed() == sent).await;
    until("all are settled", async || running.sinks.own_report("soc").unwrap().taken == 20).await;
    let inside = stub.inside.lock().unwrap();
    let first = &inside.batches[&0].0[0];
    assert_eq!(
        (&first["index"], &first["sourcetype"], &first["host"]),
        (&json!("main"), &json!("aesp:audit"), &json!("node-1"))
    );
    assert!(first["time"].as_f64().unwrap() > 1_000_000_000.0);
    assert_eq!(inside.channels[0].len(), 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indexer_that_forgets_is_sent_everything_again() {
    let world = World::new().await;
    let stub = Stub::start().await;
    stub.inside.lock().unwrap().forgets = true;
    let running = world.start(&[stub.config(&world)], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 5).await;
    let why = until_cause(&running, "unconfirmed").await;
    assert!(why.contains("did not acknowledge"), "{why}");
    assert!(running.sinks.own_report("soc").unwrap().taken == 0);
    stub.inside.lock().unwrap().forgets = false;
    until_cause(&running, "").await;
    until("all are indexed", async || stub.indexed().starts_with(&sent)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_acknowledgement_or_another_one_is_refused() {
    let world = World::new().await;
    let stub = Stub::start().await;
    stub.inside.lock().unwrap().without_ack = true;
    let running = world.start(&[stub.config(&world)], &[TENANT]).await;
    world.grow(&running, TENANT, 1).await;
    let why = until_cause(&running, "refused").await;
    assert!(why.contains("enable it for the token"), "{why}");
    drop(running);
    let mut config = stub.config(&world);
    config.secret = Some(world.secret("another").parse().unwrap());
    let running = world.start(&[config], &[TENANT]).await;
    let why = until_cause(&running, "refused").await;
    assert!(why.contains("Invalid token (code 4)") && !why.contains("another"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_is_found_among_the_others() {
    let world = World::new().await;
    let stub = Stub::start().await;
    let mut config = stub.config(&world);
    config.batch_ms = 500;
    let sent = world.log(TENANT, &["tool.a", "tool.b", "tool.refused", "tool.c", "tool.d"]).await;
    let sent: Vec<String> = sent.iter().map(ToString::to_string).collect();
    let running = world.start(&[config], &[TENANT]).await;
    until("the others are indexed", async || stub.indexed().len() >= 4).await;
    let others: Vec<String> = sent.iter().filter(|id| **id != sent[2]).cloned().collect();
    assert_eq!(stub.indexed()[..4], others);
    let dead = running.sinks.dead_letters("soc", TENANT, None, 10).await.unwrap();
    assert_eq!(dead.iter().map(|dead| dead.event.to_string()).collect::<Vec<_>>(), [sent[2].clone()]);
}
