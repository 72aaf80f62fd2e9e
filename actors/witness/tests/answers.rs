//! What a home makes of witnesses' answers. The right ones come from a real [`Notary`]; the wrong ones from a stub that turns its answers
//! into others, which no honest program gives.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aesp_audit::{Event, Query, Recorder, query};
use aesp_cluster::Ownership;
use aesp_follow::{Advance, Follower};
use aesp_keys::Secrets;
use aesp_merkle::{Checkpoint, Cosigner, Verifier, witness::AddCheckpoint};
use aesp_proto::{
    Clock, Entropy, Incarnation, SystemClock, TenantId,
    v1::{AuditEvent, EventType, Outcome},
};
use aesp_storage::Store;
use aesp_transparency::{LogKeys, Sealer};
use aesp_witness::{Anchor, Config, Metrics, Notary, Wiring, WitnessRow, Witnessing};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::{Router, body::Bytes, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const PLATFORM: TenantId = TenantId::PLATFORM;
const DEADLINE: Duration = Duration::from_secs(60);

/// How the stub turns the answers of the real witness into others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    Away,
    Form,
    OtherKey,
    Signature,
    OtherRoot,
    Time,
    SawMore,
    SawLess,
    Inconsistent,
}

struct Stub {
    lie: Mutex<Lie>,
    notary: Mutex<Option<Notary>>,
    asked: Mutex<Vec<u64>>,
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn cosigner(seed: u8) -> Cosigner {
    Cosigner::new("w", pair(seed).public_key().as_ref().try_into().unwrap()).unwrap()
}

async fn add(State(stub): State<Arc<Stub>>, body: Bytes) -> axum::response::Response {
    let asked = AddCheckpoint::read(str::from_utf8(&body).unwrap()).unwrap();
    let head = Checkpoint::glance(&asked.note).unwrap();
    let now = SystemClock.now().0 as u64 / 1_000;
    stub.asked.lock().unwrap().push(head.size);
    let wrong = Checkpoint { root: [9; 32], ..head.clone() }.text();
    let sized =
        |size: u64| (StatusCode::CONFLICT, [("content-type", "text/x.tlog.size")], format!("{size}\n"));
    let lie = *stub.lie.lock().unwrap();
    match lie {
        Lie::None => {
            let reply = stub.notary.lock().unwrap().as_ref().unwrap().add(&body, now);
            let status = StatusCode::from_u16(reply.status).unwrap();
            (status, [("content-type", reply.content_type)], reply.body).into_response()
        }
        Lie::Away => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Lie::Form => "hello".into_response(),
        Lie::OtherKey => cosigner(8).cosign(&head.text(), now, &pair(8)).into_response(),
        Lie::Signature => cosigner(7).cosign(&head.text(), now, &pair(8)).into_response(),
        Lie::OtherRoot => cosigner(7).cosign(&wrong, now, &pair(7)).into_response(),
        Lie::Time => cosigner(7).cosign(&head.text(), now - 3_600, &pair(7)).into_response(),
        Lie::SawMore => sized(head.size + 100).into_response(),
        Lie::SawLess => sized(0).into_response(),
        Lie::Inconsistent => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
    }
}

struct World {
    store: Store,
    recorder: Recorder,
    entropy: Entropy,
    ownership: Ownership,
    sealer: Sealer,
    registry: prometheus::Registry,
    witnessing: Witnessing,
    stub: Arc<Stub>,
    closing: CancellationToken,
    folder: tempfile::TempDir,
    _duty: aesp_audit::Duty,
}

impl World {
    async fn new() -> Self {
        let (store, entropy) = (Store::for_tests(), Entropy::from_seed(7));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let options = aesp_audit::Options::default();
        let started = Recorder::start(store.clone(), Arc::clone(&clock), entropy.clone(), options).await;
        let (recorder, duty) = started.unwrap();
        let claim = store.run(move |tx| Box::pin(async move { tx.claim_shards(1).await })).await.unwrap();
        let ownership = Ownership::all(Incarnation(1), &claim);
        let registry = prometheus::Registry::new();
        let sealer = Sealer::new(
            store.clone(),
            recorder.clone(),
            Arc::clone(&clock),
            entropy.clone(),
            aesp_transparency::Metrics::register(&registry).unwrap(),
            aesp_transparency::Options { pace: Duration::ZERO, ..aesp_transparency::Options::default() },
        );
        let sealer = sealer.await.unwrap();
        let stub =
            Arc::new(Stub { lie: Mutex::new(Lie::Away), notary: Mutex::new(None), asked: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let routes = Router::new().route("/add-checkpoint", post(add)).with_state(Arc::clone(&stub));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let config = Config {
            name: "w".into(),
            url: format!("http://127.0.0.1:{port}"),
            key: cosigner(7).to_string(),
            ..Config::default()
        };
        config.check().unwrap();
        let wiring = Wiring {
            store: store.clone(),
            ownership: ownership.clone(),
            recorder: recorder.clone(),
            clock,
            entropy: entropy.clone(),
            secrets: Secrets::new(Vec::new()),
            metrics: Metrics::register(&registry).unwrap(),
        };
        let folder = tempfile::tempdir().unwrap();
        let anchor = Anchor {
            every_seconds: 1,
            target: format!("file://{}", folder.path().join("anchors").display()),
            ..Anchor::default()
        };
        anchor.check().unwrap();
        let witnessing = Witnessing::new(vec![config], 1, Some(anchor), wiring);
        let closing = CancellationToken::new();
        witnessing.start(closing.clone());
        let world = Self {
            store,
            recorder,
            entropy,
            ownership,
            sealer,
            registry,
            witnessing,
            stub,
            closing,
            folder,
            _duty: duty,
        };
        world.grow().await;
        let log =
            world.until("there is a platform log", async || world.witnessing.log().status().await).await;
        let keys = world.store.run(|tx| Box::pin(LogKeys::all(tx))).await.unwrap();
        let log = Verifier::new(log.head.origin, keys[0].public.0).unwrap();
        let memory = world.folder.path().join("memory.json");
        let notary = Notary::open(cosigner(7), pair(7), vec![log], &memory).unwrap();
        *world.stub.notary.lock().unwrap() = Some(notary);
        world
    }

    /// Records an event of the platform's own log and seals it.
    async fn grow(&self) {
        let event = Event::new(&self.entropy, PLATFORM, EventType::SystemEvent, "x", Outcome::Success);
        self.recorder.append(vec![event]).await.unwrap();
        let fence = self.ownership.fence(PLATFORM.as_bytes()).unwrap();
        while self.sealer.advance(PLATFORM, fence).await.unwrap() != Advance::AtEnd {}
    }

    async fn until<T, E: std::fmt::Debug>(&self, what: &str, look: impl AsyncFn() -> Result<T, E>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            match look().await {
                Ok(found) => return found,
                Err(error) => assert!(Instant::now() < end, "{what}: {error:?}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn row(&self) -> WitnessRow {
        self.witnessing.known().await.unwrap().0.remove(0)
    }

    async fn row_when(&self, what: &str, is: impl Fn(&WitnessRow) -> bool) -> WitnessRow {
        self.until(what, async || {
            let row = self.row().await;
            if is(&row) { Ok(row) } else { Err(row) }
        })
        .await
    }

    async fn events(&self, action: &str) -> Vec<AuditEvent> {
        let page = query(&self.store, &Query { limit: 1_000, ..Query::new(PLATFORM) }).await.unwrap();
        page.events.into_iter().filter(|event| event.action == action).collect()
    }

    fn says(&self, lie: Lie) {
        *self.stub.lie.lock().unwrap() = lie;
    }

    fn counted(&self, metric: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let found =
            families.iter().filter(|family| family.name() == metric).flat_map(|family| family.get_metric());
        let own =
            found.filter(|one| label.is_empty() || one.get_label().iter().any(|pair| pair.value() == label));
        own.map(|one| one.get_counter().get_value() + one.get_gauge().get_value()).sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_cosignatures_are_refused_named_counted_and_on_record() {
    let lies = [
        (Lie::Form, "form"),
        (Lie::OtherKey, "other_key"),
        (Lie::Signature, "signature"),
        (Lie::Time, "time"),
        (Lie::OtherRoot, "signature"),
    ];
    for (lie, reason) in lies {
        let world = World::new().await;
        world.says(lie);
        let row = world.row_when("the lie is seen", |row| row.cause == reason).await;
        assert!(row.size == 0 && row.contradiction.is_none() && row.refused > 0, "{lie:?}: {row:?}");
        assert!(world.counted("aesp_witness_refused_total", reason) >= 1.0, "{lie:?}");
        let told = world.events("witness.refused").await;
        assert_eq!((told.len(), told[0].resource.as_str()), (1, "witness:w"), "{lie:?}");
        let status = world.witnessing.log().status().await.unwrap();
        assert!(status.quorate.is_none(), "{lie:?} counts as a cosignature");
        assert!(cosigner(7).open(&status.note).is_err(), "{lie:?} is in the published checkpoint");
        // The truth afterwards is believed.
        world.says(Lie::None);
        world.row_when("it cosigns", |row| row.size > 0 && row.cause.is_empty()).await;
        let status = world.witnessing.log().status().await.unwrap();
        assert!(cosigner(7).open(&status.quorate.unwrap()).is_ok());
        assert!(world.counted("aesp_witness_cosigned_total", "w") >= 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_is_critical_and_nothing_is_sent_until_a_reset() {
    for lie in [Lie::SawMore, Lie::SawLess, Lie::Inconsistent] {
        let world = World::new().await;
        world.says(Lie::None);
        let before = world.row_when("it cosigns", |row| row.size > 0).await;
        world.says(lie);
        world.grow().await;
        let row = world.row_when("it contradicts", |row| row.contradiction.is_some()).await;
        assert_eq!(row.size, before.size.max(row.size), "{lie:?}");
        let told = world.events("witness.contradicted").await;
        assert_eq!(told.len(), 1, "{lie:?}");
        assert!(told[0].risk_score >= 0.9 && told[0].resource == "witness:w", "{lie:?}: {:?}", told[0]);
        // The log grows on, and the witness hears nothing of it.
        let asked = world.stub.asked.lock().unwrap().len();
        world.says(Lie::None);
        let size = world.witnessing.log().status().await.unwrap().head.size;
        world.grow().await;
        world
            .until("the log grows on", async || {
                let status = world.witnessing.log().status().await.unwrap();
                if status.head.size > size { Ok(()) } else { Err(status.head.size) }
            })
            .await;
        world
            .until("the quorum is missed on record", async || {
                let told = world.events("witness.quorum_lost").await;
                if told.is_empty() { Err("not yet") } else { Ok(()) }
            })
            .await;
        assert_eq!(world.stub.asked.lock().unwrap().len(), asked, "{lie:?}: it is asked all the same");
        // An operator resets it. What it says from then on is the truth, so it goes on, and the quorum is back.
        let witnessing = world.witnessing.clone();
        world
            .store
            .run(move |tx| {
                let witnessing = witnessing.clone();
                Box::pin(async move { witnessing.reset(tx, "w").await })
            })
            .await
            .unwrap();
        world.row_when("it cosigns again", |row| row.size > before.size).await;
        world
            .until("the quorum is back on record", async || {
                let told = world.events("witness.quorum_regained").await;
                if told.is_empty() { Err("not yet") } else { Ok(()) }
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anchors_carry_the_cosignature_and_stop_when_the_log_does() {
    let world = World::new().await;
    world.says(Lie::None);
    let row = world
        .until("a cosigned checkpoint is anchored", async || {
            let (_, anchor) = world.witnessing.known().await.unwrap();
            anchor.filter(|anchor| anchor.size > 0).ok_or("none is")
        })
        .await;
    let path = world.folder.path().join("anchors").join(&row.object);
    let note = std::fs::read_to_string(path).unwrap();
    assert!(cosigner(7).open(&note).is_ok(), "{note}");
    let told = world.events("log.anchored").await;
    assert_eq!(told[0].metadata["checkpoint"], note);
    // The record of the anchor makes the log longer, which is not anchored for its own sake.
    let anchored = world.counted("aesp_anchors_total", "");
    let size = world.witnessing.log().status().await.unwrap().head.size;
    let fence = world.ownership.fence(PLATFORM.as_bytes()).unwrap();
    while world.sealer.advance(PLATFORM, fence).await.unwrap() != Advance::AtEnd {}
    world
        .until("the record is in the log", async || {
            let status = world.witnessing.log().status().await.unwrap();
            if status.head.size > size { Ok(()) } else { Err(status.head.size) }
        })
        .await;
    // Three times what an anchor takes.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
        assert!(world.counted("aesp_anchors_total", "") <= anchored + 1.0, "anchors are anchored for ever");
        while world.sealer.advance(PLATFORM, fence).await.unwrap() != Advance::AtEnd {}
    }
}
