//! Against a stub of Elasticsearch's bulk API, made after its published interface: there is no Elasticsearch to be had.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aesp_sinks::{Config, Kind};
use axum::{Router, extract::State, http::HeaderMap, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    fixture::{TENANT, World, sink, until, until_cause},
    raw::{Deed, Raw},
};

#[derive(Default)]
struct Inside {
    documents: BTreeMap<String, Value>,
    /// How often each document was to be created.
    asked: BTreeMap<String, u32>,
    /// Every second document of a request has to wait.
    overloaded: bool,
    /// Indexing is blocked.
    full: bool,
    /// Documents of this action do not fit the index.
    refused_action: String,
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
        let routes = Router::new().route("/_bulk", post(bulk)).with_state(Arc::clone(&inside));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { port, inside, serving }
    }

    fn config(&self, world: &World) -> Config {
        let mut config = sink(Kind::Elasticsearch, format!("http://127.0.0.1:{}", self.port));
        config.secret = Some(world.secret("password").parse().unwrap());
        config.user = "aesp".into();
        config
    }

    fn has(&self, ids: &[String]) -> bool {
        let inside = self.inside.lock().unwrap();
        ids.iter().all(|id| inside.documents.contains_key(id))
    }
}

async fn bulk(State(inside): State<Shared>, headers: HeaderMap, body: String) -> String {
    // aesp:password
    assert_eq!(headers["authorization"], "Basic YWVzcDpwYXNzd29yZA==");
    assert_eq!(headers["content-type"], "application/x-ndjson");
    let mut inside = inside.lock().unwrap();
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut items = Vec::new();
    for (at, pair) in lines.chunks(2).enumerate() {
        assert_eq!(pair[0]["create"]["_index"], "aesp");
        let id = pair[0]["create"]["_id"].as_str().unwrap().to_owned();
        *inside.asked.entry(id.clone()).or_default() += 1;
        let error = |kind: &str| json!({ "type": kind, "reason": "because" });
        let answer = if inside.full {
            json!({ "_id": id, "status": 403, "error": error("cluster_block_exception") })
        } else if pair[1]["action"] == inside.refused_action.as_str() {
            json!({ "_id": id, "status": 400, "error": error("document_parsing_exception") })
        } else if inside.overloaded && at % 2 == 1 {
            json!({ "_id": id, "status": 429, "error": error("es_rejected_execution_exception") })
        } else if inside.documents.contains_key(&id) {
            json!({ "_id": id, "status": 409, "error": error("version_conflict_engine_exception") })
        } else {
            inside.documents.insert(id.clone(), pair[1].clone());
            json!({ "_id": id, "status": 201 })
        };
        items.push(json!({ "create": answer }));
    }
    json!({ "took": 1, "errors": true, "items": items }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_have_the_ids_of_events_so_that_repeats_make_no_doubles() {
    let world = World::new().await;
    let stub = Stub::start().await;
    let mut config = stub.config(&world);
    config.batch_events = 4;
    stub.inside.lock().unwrap().overloaded = true;
    let sent = world.log(TENANT, &["tool.a", "tool.b", "tool.c", "tool.d"]).await;
    let sent: Vec<String> = sent.iter().map(ToString::to_string).collect();
    let running = world.start(&[config], &[TENANT]).await;
    until_cause(&running, "busy").await;
    stub.inside.lock().unwrap().overloaded = false;
    until_cause(&running, "").await;
    until("all are there", async || stub.has(&sent)).await;
    let inside = stub.inside.lock().unwrap();
    // It has taken the third in the same answer in which it put the second off.
    assert!(inside.asked[&sent[2]] > 1, "{:?}", inside.asked);
    let document = &inside.documents[&sent[0]];
    assert_eq!((&document["action"], &document["@timestamp"]), (&json!("tool.a"), &document["timestamp_ms"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_does_not_fit_is_put_aside_and_can_go_later() {
    let world = World::new().await;
    let stub = Stub::start().await;
    stub.inside.lock().unwrap().refused_action = "tool.b".into();
    let sent = world.log(TENANT, &["tool.a", "tool.b", "tool.c"]).await;
    let sent: Vec<String> = sent.iter().map(ToString::to_string).collect();
    let running = world.start(&[stub.config(&world)], &[TENANT]).await;
    until("the others are there", async || stub.has(&[sent[0].clone(), sent[2].clone()])).await;
    until("it is noted", async || running.sinks.own_report("soc").unwrap().refused == 1).await;
    let dead = running.sinks.dead_letters("soc", TENANT, None, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].event.to_string()), (1, sent[1].clone()));
    assert_eq!(dead[0].why, "status 400, document_parsing_exception: because");
    let again = running.sinks.retry("soc", TENANT).await.unwrap();
    assert_eq!((again.delivered, again.refused), (0, 1), "it is refused again");
    stub.inside.lock().unwrap().refused_action.clear();
    let again = running.sinks.retry("soc", TENANT).await.unwrap();
    assert_eq!((again.delivered, again.refused, again.why.as_str()), (1, 0, ""));
    assert!(stub.has(&sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_index_is_no_fault_of_the_events() {
    let world = World::new().await;
    let stub = Stub::start().await;
    stub.inside.lock().unwrap().full = true;
    let sent = world.log(TENANT, &["tool.a", "tool.b"]).await;
    let sent: Vec<String> = sent.iter().map(ToString::to_string).collect();
    let running = world.start(&[stub.config(&world)], &[TENANT]).await;
    let why = until_cause(&running, "refused").await;
    assert!(why.contains("cluster_block_exception"), "{why}");
    assert!(running.sinks.dead_letters("soc", TENANT, None, 10).await.unwrap().is_empty());
    stub.inside.lock().unwrap().full = false;
    until("all are there", async || stub.has(&sent)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_of_a_bulk_request_settles_nothing() {
    let world = World::new().await;
    let raw = Raw::start(Vec::new(), Deed::status("200 OK", "", "<html>Welcome</html>")).await;
    let config = sink(Kind::Elasticsearch, format!("http://127.0.0.1:{}", raw.port));
    let running = world.start(&[config], &[TENANT]).await;
    world.grow(&running, TENANT, 2).await;
    until_cause(&running, "garbled").await;
    raw.mend(Deed::status("200 OK", "", r#"{"took":1,"errors":false,"items":[]}"#));
    until("the answer is looked at again", async || {
        running.sinks.own_report("soc").unwrap().why.contains("tells of 0")
    })
    .await;
    assert_eq!(running.sinks.own_report("soc").unwrap().taken, 0);
}
