//! A Host's side with in-memory streams, and a Runtime that does as the test says.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(dead_code, reason = "each of the tests that share it uses its part")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aesp_audit::Recorder;
use aesp_proto::{
    DispatchId, Entropy, Error, ErrorCode, Incarnation, Result, Revision, SessionId, SystemClock, TenantId,
    Timestamp,
    v1::{
        AnnounceRuntime, ContractDraft, ContractReference, FulfillTools, FulfillToolsResponse,
        FunctionResult, HostFrame, ResultStatus, RuntimeFrame, ToolCall, ToolResult,
        host_frame::Frame as Host, runtime_frame::Frame,
    },
};
use aesp_runtime::{
    Admission, Directory, Dispatch, HostFrames, LateResults, Metrics, Options, PeerIdentity, Priority,
    Registration, Rights, RuntimeSlot, Runtimes, Settled, Wiring,
};
use aesp_storage::{Kind, Range, Store, row_key};
use aesp_supervision::Supervisor;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tonic::Status;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn tenant(n: u8) -> TenantId {
    TenantId::from_bytes([n; 16])
}

/// Registers any `runtime_id` for the identity of the same name and the tenants 1 and 2.
#[derive(Default)]
pub(crate) struct Snapshots {
    pub(crate) revoked: AtomicBool,
    pub(crate) retired: AtomicBool,
    /// Of the rights that this node has applied.
    pub(crate) revision: AtomicU64,
}

impl Directory for Snapshots {
    fn registration(&self, runtime_id: &str) -> Option<Arc<Registration>> {
        let registration = Registration {
            runtime_id: runtime_id.to_owned(),
            certificate_identity: format!("spiffe://test/{runtime_id}"),
            tenants: vec![tenant(1), tenant(2)],
            contracts: vec!["*".to_owned()],
            zones: Vec::new(),
            created_at: Timestamp(0),
            revoked: false,
        };
        (!self.revoked.load(Ordering::SeqCst)).then(|| Arc::new(registration))
    }

    fn tenant(&self, id_or_name: &str) -> Option<TenantId> {
        id_or_name.parse().ok()
    }

    fn contract(&self, _: TenantId, name: &str, version: Option<&str>) -> Result<ContractReference, String> {
        if self.retired.load(Ordering::SeqCst) {
            return Err("retired".to_owned());
        }
        let version = version.unwrap_or("1.0.0").to_owned();
        Ok(ContractReference { name: name.to_owned(), version, digest: Vec::new() })
    }

    fn rights(&self, _: TenantId) -> Option<Rights> {
        Some(Rights { tenant: Revision(self.revision.load(Ordering::SeqCst)), ..Rights::default() })
    }

    fn contracts(&self, _: TenantId) -> Vec<ContractReference> {
        Vec::new()
    }

    fn development(&self, _: TenantId) -> bool {
        true
    }

    fn check_draft(&self, _: TenantId, _: SessionId, _: &ContractDraft) -> Result<(), String> {
        Ok(())
    }
}

/// Admits up to a limit.
pub(crate) struct Quota {
    pub(crate) limit: usize,
    pub(crate) used: Arc<AtomicUsize>,
}

struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Admission for Quota {
    async fn admit(&self, _: &[TenantId]) -> Result<RuntimeSlot> {
        let slot = Slot(Arc::clone(&self.used));
        if self.used.fetch_add(1, Ordering::SeqCst) >= self.limit {
            return Err(Error::new(ErrorCode::QuotaExceeded, "too many Runtimes"));
        }
        Ok(Box::new(slot))
    }
}

/// Remembers what was told after the fact.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) settled: Mutex<Vec<(String, DispatchId)>>,
    pub(crate) never: Mutex<Vec<DispatchId>>,
    /// Whether results can't be settled at the moment.
    pub(crate) later: AtomicBool,
    /// Who owns every session, if another node does.
    pub(crate) owner: Mutex<Option<Incarnation>>,
}

#[async_trait]
impl LateResults for Ledger {
    async fn settle(&self, identity: &str, dispatch: DispatchId, _: ToolResult) -> Settled {
        if let Some(owner) = *self.owner.lock().unwrap() {
            return Settled::Elsewhere(owner);
        }
        self.settled.lock().unwrap().push((identity.to_owned(), dispatch));
        if self.later.load(Ordering::SeqCst) { Settled::Later } else { Settled::Recorded }
    }

    async fn never_received(&self, _: &str, dispatch: DispatchId) -> Settled {
        if let Some(owner) = *self.owner.lock().unwrap() {
            return Settled::Elsewhere(owner);
        }
        self.never.lock().unwrap().push(dispatch);
        Settled::Recorded
    }
}

pub(crate) struct Node {
    pub(crate) runtimes: Runtimes,
    pub(crate) directory: Arc<Snapshots>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) slots: Arc<AtomicUsize>,
    /// What is left of the lease, in milliseconds.
    pub(crate) lease_ms: Arc<AtomicU64>,
    pub(crate) store: Store,
    pub(crate) entropy: Entropy,
    pub(crate) registry: prometheus::Registry,
    _duty: aesp_audit::Duty,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default(), usize::MAX).await
    }

    pub(crate) async fn with(options: Options, limit: usize) -> Self {
        let registry = prometheus::Registry::new();
        let supervision = aesp_supervision::Metrics::new(&registry).unwrap();
        let (directory, ledger) = (Arc::new(Snapshots::default()), Arc::new(Ledger::default()));
        let (slots, entropy, store) = (Arc::default(), Entropy::from_seed(7), Store::for_tests());
        let recorder = Recorder::start(
            store.clone(),
            Arc::new(SystemClock),
            entropy.clone(),
            aesp_audit::Options::default(),
        );
        let (recorder, duty) = recorder.await.unwrap();
        for tenant in [tenant(1), tenant(2)] {
            let created = store.run(|tx| Box::pin(tx.create_tenant_keys(tenant)));
            let created: Result<(), aesp_storage::Error> = created.await;
            created.unwrap();
        }
        let lease_ms = Arc::new(AtomicU64::new(2_000));
        let left = Arc::clone(&lease_ms);
        let wiring = Wiring {
            directory: directory.clone(),
            admission: Arc::new(Quota { limit, used: Arc::clone(&slots) }),
            late: ledger.clone(),
            recorder,
            supervisor: Supervisor::root("test", supervision).await.unwrap(),
            clock: Arc::new(SystemClock),
            entropy: entropy.clone(),
            lease: Arc::new(move || Duration::from_millis(left.load(Ordering::SeqCst))),
            metrics: Metrics::new(&registry).unwrap(),
            options,
        };
        let runtimes = Runtimes::start(wiring).await.unwrap();
        Self { runtimes, directory, ledger, slots, lease_ms, store, entropy, registry, _duty: duty }
    }

    /// Connects a Runtime that serves only tenant 1, as one must that registers tools.
    pub(crate) async fn of_one_tenant(&self, runtime_id: &str) -> Runtime {
        let announcement =
            AnnounceRuntime { tenant_id: tenant(1).to_string(), ..announcement(runtime_id, 4) };
        let mut runtime = self.announce_as(announcement).await;
        assert!(matches!(runtime.next().await, Host::Announced(_)));
        runtime
    }

    /// Connects another process of a Runtime that fulfils `echo`.
    pub(crate) async fn replica(&self, runtime_id: &str, instance: &str) -> Runtime {
        let metadata = [("instance".to_owned(), instance.to_owned())].into();
        let announcement = AnnounceRuntime { metadata, ..announcement(runtime_id, 4) };
        let mut runtime = self.announce_as(announcement).await;
        assert!(matches!(runtime.next().await, Host::Announced(_)));
        assert_eq!(runtime.fulfil("echo").await.fulfilled, ["echo"]);
        runtime
    }

    /// Connects and announces a Runtime, but offers nothing.
    pub(crate) async fn announce(&self, runtime_id: &str, credits: u32) -> Runtime {
        self.announce_as(announcement(runtime_id, credits)).await
    }

    async fn announce_as(&self, announcement: AnnounceRuntime) -> Runtime {
        let (sender, receiver) = mpsc::channel(8192);
        let inbound = stream::unfold(receiver, |mut receiver| async move {
            let item = receiver.recv().await?;
            Some((item, receiver))
        });
        let identities = vec![format!("spiffe://test/{}", announcement.runtime_id)];
        let peer = PeerIdentity { identities, address: None };
        let frames = self.runtimes.connect(peer, inbound).await.unwrap();
        let runtime = Runtime { sender, frames };
        runtime.send(Frame::Announce(announcement)).await;
        runtime
    }

    /// Connects a Runtime that fulfils `echo`.
    pub(crate) async fn runtime(&self, runtime_id: &str, credits: u32) -> Runtime {
        let mut runtime = self.announce(runtime_id, credits).await;
        assert!(matches!(runtime.next().await, Host::Announced(_)));
        assert_eq!(runtime.fulfil("echo").await.fulfilled, ["echo"]);
        runtime
    }

    pub(crate) fn call(&self) -> Dispatch {
        Dispatch {
            id: DispatchId::random(&self.entropy),
            tenant: tenant(1),
            session: SessionId::from_bytes([9; 16]),
            invocation_id: "call".to_owned(),
            correlation_id: "correlation".to_owned(),
            name: "echo".into(),
            version: "1.0.0".into(),
            args: Bytes::from_static(b"{\"text\":\"hello\"}"),
            deadline: Instant::now() + Duration::from_secs(600),
            streaming: false,
            depth: 1,
            priority: Priority::Normal,
            development: false,
            rights: Rights::default(),
        }
    }

    /// Tells whether the tenant's audit log holds an event of this action, which leaves carry in plain text.
    pub(crate) async fn logged(&self, tenant: TenantId, action: &str) -> bool {
        let prefix = row_key(tenant, Kind::AUDIT_EVENT, &[]);
        let rows = self.store.run(|tx| {
            let range = Range::prefix(&prefix);
            Box::pin(async move { tx.range_raw(range).await })
        });
        let rows: Result<_, aesp_storage::Error> = rows.await;
        rows.unwrap().iter().any(|(_, leaf)| leaf.windows(action.len()).any(|part| part == action.as_bytes()))
    }

    /// Returns the sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.into_iter().flat_map(|family| family.get_metric());
        metrics.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }

    /// Waits until `reached`, with a deadline.
    pub(crate) async fn wait_until(&self, reached: impl Fn(&Self) -> bool) {
        let wait = async {
            while !reached(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the state is reached in time");
    }
}

/// The other end of a connection.
pub(crate) struct Runtime {
    pub(crate) sender: mpsc::Sender<Result<RuntimeFrame, Status>>,
    pub(crate) frames: HostFrames,
}

impl Runtime {
    pub(crate) async fn send(&self, frame: Frame) {
        self.sender.send(Ok(RuntimeFrame { frame: Some(frame) })).await.unwrap();
    }

    pub(crate) async fn item(&mut self) -> Option<Result<HostFrame, Status>> {
        timeout(PATIENCE, self.frames.next()).await.expect("a frame in time")
    }

    pub(crate) async fn next(&mut self) -> Host {
        self.item().await.expect("not ended").expect("not refused").frame.expect("of a known kind")
    }

    pub(crate) async fn fulfil(&mut self, name: &str) -> FulfillToolsResponse {
        let wishes = FulfillTools { tool_names: vec![name.to_owned()], ..FulfillTools::default() };
        self.send(Frame::Fulfill(wishes)).await;
        match self.next().await {
            Host::Fulfilled(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn called(&mut self) -> ToolCall {
        match self.next().await {
            Host::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn answer(&self, dispatch_id: Vec<u8>) {
        self.send(Frame::Result(answer(dispatch_id))).await;
    }

    /// Reads until the Host ends the connection, and returns why.
    pub(crate) async fn refused(&mut self) -> Error {
        loop {
            match self.item().await.expect("a reason") {
                Ok(_) => {}
                Err(status) => return Error::from_status(&status),
            }
        }
    }
}

fn announcement(runtime_id: &str, credits: u32) -> AnnounceRuntime {
    AnnounceRuntime {
        runtime_id: runtime_id.to_owned(),
        protocol_version: "1.0".to_owned(),
        initial_credits: credits,
        metadata: [("instance".to_owned(), "one".to_owned())].into(),
        ..AnnounceRuntime::default()
    }
}

pub(crate) fn answer(dispatch_id: Vec<u8>) -> ToolResult {
    let result = FunctionResult {
        status: ResultStatus::Success.into(),
        content_json: Bytes::from_static(b"{\"text\":\"hello\"}"),
        ..FunctionResult::default()
    };
    ToolResult { dispatch_id, result: Some(result), ..ToolResult::default() }
}
