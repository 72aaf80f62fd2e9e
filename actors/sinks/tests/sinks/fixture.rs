use std::{sync::Arc, time::Duration};

use aesp_audit::{Event, Options, Recorder};
use aesp_cluster::Ownership;
use aesp_keys::Secrets;
use aesp_proto::{
    Clock, Entropy, EventId, Incarnation, SystemClock, TenantId,
    v1::{EventType, Outcome},
};
use aesp_sinks::{Config, Kind, Metrics, Sinks, Start, Wiring};
use aesp_storage::Store;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store with a log, a node that is every tenant's home, and a folder.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) recorder: Recorder,
    pub(crate) shards: Ownership,
    pub(crate) folder: TempDir,
    pub(crate) metrics: Metrics,
    entropy: Entropy,
}

/// One life of a node's sinks.
pub(crate) struct Running {
    pub(crate) sinks: Sinks,
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
        let epochs = store.run(|tx| Box::pin(async move { tx.claim_shards(1).await })).await;
        let entropy = Entropy::from_system();
        let (recorder, _duty) =
            Recorder::start(store.clone(), Arc::new(SystemClock), entropy.clone(), Options::default())
                .await
                .unwrap();
        let epochs: Result<_, aesp_storage::Error> = epochs;
        Self {
            store,
            recorder,
            shards: Ownership::all(Incarnation(1), &epochs.unwrap()),
            folder: tempfile::tempdir().unwrap(),
            metrics: Metrics::default(),
            entropy,
        }
    }

    /// Makes a tenant with keys.
    pub(crate) async fn tenant(&self) -> TenantId {
        let tenant = TenantId::random(&self.entropy);
        self.store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await })).await.unwrap();
        tenant
    }

    /// Starts a node's sinks, which hear at once of what is in the logs of these tenants.
    pub(crate) async fn start(&self, configs: &[Config], tenants: &[TenantId]) -> Running {
        let closing = CancellationToken::new();
        for config in configs {
            assert_eq!(config.check(), Ok(()), "{config:?}");
        }
        let wiring = Wiring {
            store: self.store.clone(),
            recorder: self.recorder.clone(),
            clock: Arc::new(SystemClock),
            entropy: self.entropy.clone(),
            secrets: Secrets::new(Vec::new()).refreshed_every(Duration::from_millis(100)),
            metrics: self.metrics.clone(),
            node: Incarnation(1),
            name: "node-1".into(),
            closing: closing.clone(),
        };
        let sinks = Sinks::start(configs, wiring).await.unwrap();
        for tenant in tenants {
            sinks.news(*tenant, self.shards.fence(tenant.as_bytes()).unwrap());
        }
        Running { sinks, closing }
    }

    /// Appends events to a tenant's log and returns their ids.
    pub(crate) async fn log(&self, tenant: TenantId, actions: &[&str]) -> Vec<EventId> {
        let event = |action: &&str| {
            let kind = EventType::ToolInvocation;
            let mut event = Event::new(&self.entropy, tenant, kind, *action, Outcome::Success);
            event.details.resource = "tool:echo".into();
            event.details.reason = "a \"quoted\" reason]\nof two lines".into();
            event
        };
        let events: Vec<Event> = actions.iter().map(event).collect();
        let ids = events.iter().map(|event| event.id).collect();
        self.recorder.append(events).await.unwrap();
        ids
    }

    /// Appends so many events, and says so.
    pub(crate) async fn grow(&self, running: &Running, tenant: TenantId, count: usize) -> Vec<String> {
        let actions: Vec<String> = (0..count).map(|n| format!("tool.{n}")).collect();
        let names: Vec<&str> = actions.iter().map(String::as_str).collect();
        let ids = self.log(tenant, &names).await;
        running.sinks.news(tenant, self.shards.fence(tenant.as_bytes()).unwrap());
        ids.iter().map(EventId::to_string).collect()
    }

    /// Writes a secret and returns a reference to it.
    pub(crate) fn secret(&self, text: &str) -> String {
        let path = self.folder.path().join("secret");
        std::fs::write(&path, text).unwrap();
        format!("file:{}", path.display())
    }
}

/// A sink that sends quickly, from each tenant's first event.
pub(crate) fn sink(kind: Kind, target: impl Into<String>) -> Config {
    Config {
        name: "soc".into(),
        kind,
        target: target.into(),
        start: Start::Beginning,
        batch_ms: 20,
        timeout_ms: 2_000,
        index: if kind == Kind::Elasticsearch { "aesp".into() } else { String::new() },
        ..Config::default()
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "it does not come about that {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the sink reports this cause at this node, and returns what it says; an empty one for none.
pub(crate) async fn until_cause(running: &Running, cause: &str) -> String {
    let mut why = String::new();
    until(&format!("the cause is {cause:?}"), async || {
        let report = running.sinks.own_report("soc").unwrap();
        why = report.why;
        report.cause == cause
    })
    .await;
    why
}

/// Returns the wall clock's seconds.
pub(crate) fn seconds() -> i64 {
    SystemClock.now().0 / 1_000
}
