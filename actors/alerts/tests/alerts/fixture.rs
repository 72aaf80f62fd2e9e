use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aesp_alerts::{
    Alerts, Config, Delivery, ListedAlert, Metrics, Options, Outcome as Told, Receiver, Status, Wiring,
    deliveries, list_alerts,
};
use aesp_audit::{Event, Options as RecorderOptions, Recorder};
use aesp_cluster::Ownership;
use aesp_follow::Follower;
use aesp_keys::Secrets;
use aesp_proto::{
    Clock, Entropy, Incarnation, PrincipalId, SystemClock, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::Store;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store with a log, and a folder.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) recorder: Recorder,
    pub(crate) folder: TempDir,
    pub(crate) entropy: Entropy,
}

/// One life of a home's alerts.
pub(crate) struct Running {
    pub(crate) alerts: Alerts,
    shards: Ownership,
    closing: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// A tenant whose keys exist from the start.
pub(crate) const TENANT: TenantId = TenantId::PLATFORM;

impl World {
    pub(crate) async fn new() -> Self {
        // Whichever test comes first.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let store = Store::for_tests();
        let entropy = Entropy::from_system();
        let clock = Arc::new(SystemClock);
        let started = Recorder::start(store.clone(), clock, entropy.clone(), RecorderOptions::default());
        let (recorder, _duty) = started.await.unwrap();
        Self { store, recorder, folder: tempfile::tempdir().unwrap(), entropy }
    }

    /// Has a node take all shards, and starts its alerts; another that runs has none any more.
    pub(crate) async fn start(&self, incarnation: u64, config: &Config) -> Running {
        for receiver in &config.receivers {
            assert_eq!(receiver.check(), Ok(()), "{receiver:?}");
        }
        let claimed = self.store.run(move |tx| Box::pin(async move { tx.claim_shards(incarnation).await }));
        let epochs: Result<_, aesp_storage::Error> = claimed.await;
        let shards = Ownership::all(Incarnation(incarnation), &epochs.unwrap());
        let closing = CancellationToken::new();
        let wiring = Wiring {
            store: self.store.clone(),
            recorder: self.recorder.clone(),
            ownership: shards.clone(),
            clock: Arc::new(SystemClock),
            entropy: self.entropy.clone(),
            secrets: Secrets::new(Vec::new()).refreshed_every(Duration::from_millis(100)),
            metrics: Metrics::default(),
            name: format!("node-{incarnation}"),
            options: Options {
                pace: Duration::ZERO,
                tick: Duration::from_millis(20),
                note_cursor: Duration::from_millis(50),
                ..Options::default()
            },
            closing: closing.clone(),
        };
        let alerts = Alerts::start(config, wiring).unwrap();
        Running { alerts, shards, closing }
    }

    /// Makes rules the tenant's, as their service does.
    pub(crate) async fn apply(&self, running: &Running, text: &str) {
        let checked = running.alerts.check(TENANT, text.to_owned()).await.unwrap();
        let by = (PrincipalId::from_bytes([7; 16]), SystemClock.now(), "a test");
        let applied = self.store.run(move |tx| {
            let checked = checked.clone();
            Box::pin(async move { aesp_alerts::apply(tx, TENANT, &checked, None, by).await })
        });
        applied.await.unwrap();
    }

    /// Appends events of an action that was refused, from one address.
    pub(crate) async fn log(&self, action: &str, address: &str, count: usize) {
        let event = |_| {
            let mut event =
                Event::new(&self.entropy, TENANT, EventType::Authentication, action, Outcome::Denied);
            event.details.source_ip = address.to_owned();
            event
        };
        self.recorder.append((0..count).map(event).collect()).await.unwrap();
    }

    pub(crate) async fn alerts(&self, status: Status) -> Vec<ListedAlert> {
        let now = SystemClock.now();
        let listed = self
            .store
            .run(move |tx| Box::pin(async move { list_alerts(tx, TENANT, status, None, 100, now).await }));
        listed.await.unwrap().0
    }

    pub(crate) async fn deliveries(&self, outcome: Told) -> Vec<Delivery> {
        let listed = self.store.run(move |tx| {
            Box::pin(async move { deliveries(tx, TENANT, |one| one.outcome == outcome, None, 100).await })
        });
        listed.await.unwrap().0
    }

    /// Counts the events of an action in the tenant's log.
    pub(crate) async fn recorded(&self, action: &str) -> usize {
        let mut query = aesp_audit::Query { limit: 1_000, ..aesp_audit::Query::new(TENANT) };
        query.filter.actions = vec![action.to_owned()];
        aesp_audit::query(&self.store, &query).await.unwrap().events.len()
    }

    /// Writes a secret and returns a reference to it.
    pub(crate) fn secret(&self, text: &str) -> String {
        let path = self.folder.path().join("secret");
        std::fs::write(&path, text).unwrap();
        format!("file:{}", path.display())
    }
}

impl Running {
    /// Has the home look through the log until nothing is new.
    pub(crate) async fn look(&self) {
        let fence = self.shards.fence(TENANT.as_bytes()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.alerts.advance(TENANT, fence).await.unwrap() != aesp_follow::Advance::AtEnd {
            assert!(Instant::now() < deadline, "the log has no end");
        }
    }
}

/// Receivers that are told quickly, and told by default.
pub(crate) fn config(receivers: Vec<Receiver>) -> Config {
    let quick = |mut receiver: Receiver| {
        (receiver.group_wait_seconds, receiver.group_interval_seconds) = (0, 1);
        receiver.timeout_ms = 2_000;
        receiver
    };
    let receivers: Vec<_> = receivers.into_iter().map(quick).collect();
    Config { default: receivers.iter().map(|one| one.name.clone()).collect(), receivers }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "it does not come about that {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What came to a receiver, with its path, and the status that it answers.
#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) came: Mutex<Vec<(String, HeaderMap, serde_json::Value)>>,
    pub(crate) status: Mutex<u16>,
}

impl Inside {
    pub(crate) fn bodies(&self) -> Vec<serde_json::Value> {
        self.came.lock().unwrap().iter().map(|(.., body)| body.clone()).collect()
    }

    pub(crate) fn answer(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }
}

async fn take(
    State(inside): State<Arc<Inside>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let status = StatusCode::from_u16(*inside.status.lock().unwrap()).unwrap_or(StatusCode::OK);
    if status.is_success() {
        let body = serde_json::from_slice(&body).unwrap();
        inside.came.lock().unwrap().push((uri.path().to_owned(), headers, body));
    }
    (status, "said the receiver")
}

/// Starts a receiver of HTTP on this machine and returns its address.
pub(crate) async fn receiver() -> (String, Arc<Inside>) {
    let inside = Arc::<Inside>::default();
    inside.answer(200);
    let routes = Router::new().fallback(take).with_state(Arc::clone(&inside));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (address, inside)
}
