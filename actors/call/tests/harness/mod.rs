//! The pipeline on a store of the test's own, with a Runtime in memory that answers every call with its arguments.
#![expect(dead_code, reason = "the tests and the example each use a part")]
#![expect(clippy::unwrap_used, reason = "helper of tests")]

pub(crate) mod staged;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_audit::Recorder;
use aesp_call::{Access, Authenticator, CallParts, Caller, Calls, Late, Source, Views};
use aesp_catalog::{Contract, Origin as ContractOrigin};
use aesp_identity::{TokenOptions, Tokens};
use aesp_policy::{Grant, Role};
use aesp_proto::{
    Clock, DispatchId, Entropy, Error, PrincipalId, Result, SessionId, SystemClock, TenantId, Timestamp,
    v1::{
        AnnounceRuntime, AuthorizeToolCallRequest, AuthorizeToolCallResponse, ContractDraft,
        ContractReference, Effects, FulfillTools, FunctionCall, FunctionResult, InvocationStatus,
        InvokeRequest, InvokeResponse, InvokeStreamResponse, LogToolResultRequest, LogToolResultResponse,
        PrincipalType, ResultStatus, Risk, RuntimeFrame, StreamChunk, ToolCall, ToolResult,
        host_frame::Frame as Host, runtime_frame::Frame,
    },
};
use aesp_runtime::{Admission, Directory, PeerIdentity, Registration, Rights, RuntimeSlot, Runtimes, Wiring};
use aesp_session::{NewSession, Origin, Sessions};
use aesp_storage::{Kind, Range, Store, Transaction, row_key};
use aesp_supervision::Supervisor;
use aesp_tenant::{NewTenant, Tenants};
use async_trait::async_trait;
use futures::{Stream, StreamExt, stream};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::yield_now,
    time::{sleep, timeout},
};
use tonic::Status;

pub(crate) const TENANT: TenantId = TenantId::from_bytes([7; 16]);

/// A node without its front doors.
pub(crate) struct Pipeline {
    pub(crate) calls: Calls,
    pub(crate) decisions: Access,
    pub(crate) views: Views,
    pub(crate) sessions: Sessions,
    pub(crate) store: Store,
    pub(crate) agent: PrincipalId,
    access: Authenticator,
    tokens: Arc<Tokens>,
    clock: Arc<dyn Clock>,
    token: String,
    session: SessionId,
    /// Lets the Runtime answer calls with the arguments [`HELD`].
    pub(crate) answers: Arc<Semaphore>,
    pub(crate) late: Arc<Late>,
    pub(crate) shards: aesp_cluster::Ownership,
    /// How many changes of rights the last hop has applied that the views have not.
    pub(crate) ahead: Arc<AtomicU64>,
    /// What the Runtime was given.
    pub(crate) dispatches: Arc<Mutex<Vec<DispatchId>>>,
    /// How often the Host has read all that the Runtime had sent of a stream, or of a call that was held.
    read: watch::Receiver<u32>,
    _audit: aesp_audit::Duty,
}

impl Pipeline {
    /// Starts a node on an empty store, with the tools `read`, `write`, which has effects, and `count`, which streams.
    pub(crate) async fn start(store: Store) -> Self {
        Self::start_at(store, Arc::new(SystemClock)).await
    }

    /// As [`Pipeline::start`], with a clock of the test's own.
    pub(crate) async fn start_at(store: Store, clock: Arc<dyn Clock>) -> Self {
        let (entropy, now) = (Entropy::from_system(), clock.now());
        store.initialise().await.unwrap();
        let token = {
            let entropy = entropy.clone();
            let made = store.run(move |tx| {
                let entropy = entropy.clone();
                Box::pin(async move { populate(tx, &entropy, now).await })
            });
            let principal = made.await.unwrap();
            (principal, load_tokens(&store).await)
        };
        let (principal, tokens) = token;
        let token = tokens.issue(&principal, None, &entropy, now).unwrap();

        let registry = prometheus::Registry::new();
        let supervision = aesp_supervision::Metrics::new(&registry).unwrap();
        let supervisor = Supervisor::root("test", supervision).await.unwrap();
        let options = aesp_audit::Options::default();
        let recorder = Recorder::start(store.clone(), clock.clone(), entropy.clone(), options).await;
        let (recorder, audit) = recorder.unwrap();
        let claim = store.run(|tx| Box::pin(async move { tx.claim_shards(1).await }));
        let claimed: std::result::Result<_, aesp_storage::Error> = claim.await;
        let shards = aesp_cluster::Ownership::all(aesp_proto::Incarnation(1), &claimed.unwrap());
        let views = Views::start(store.clone()).await.unwrap();
        let wiring = aesp_tenant::Wiring {
            store: store.clone(),
            shards: shards.clone(),
            living: Arc::new(|| BTreeSet::from([aesp_proto::Incarnation(1)])),
            supervisor: supervisor.clone(),
            metrics: aesp_tenant::Metrics::new(&registry).unwrap(),
        };
        let tenants = Tenants::start(wiring).await.unwrap();
        let context = aesp_session::Context {
            store: store.clone(),
            recorder: recorder.clone(),
            tenants: tenants.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            shards: shards.clone(),
            supervisor: supervisor.clone(),
            metrics: aesp_session::Metrics::new(&registry).unwrap(),
        };
        // Nothing is swept while a test counts.
        let options = aesp_session::Options { sweep_every: Duration::from_secs(3600), ..Default::default() };
        let sessions = Sessions::start(context, options).await.unwrap();
        let (late, ahead) = (Arc::new(Late::default()), Arc::new(AtomicU64::new(0)));
        let runtimes = Runtimes::start(Wiring {
            directory: Arc::new(Everything(views.clone(), Arc::clone(&ahead))),
            admission: Arc::new(Everybody),
            late: Arc::<Late>::clone(&late),
            recorder: recorder.clone(),
            supervisor,
            clock: clock.clone(),
            entropy: entropy.clone(),
            lease: Arc::new(|| Duration::from_secs(2)),
            metrics: aesp_runtime::Metrics::new(&registry).unwrap(),
            options: aesp_runtime::Options::default(),
        });
        let runtimes = runtimes.await.unwrap();
        let authenticator = Authenticator::new(
            store.clone(),
            Arc::clone(&tokens),
            views.clone(),
            recorder.clone(),
            clock.clone(),
        );
        let access = Access::new(views.clone(), authenticator.clone(), recorder, entropy, clock.clone());
        let parts = CallParts {
            access: access.clone(),
            tenants,
            sessions: sessions.clone(),
            runtimes,
            shards: shards.clone(),
            store: store.clone(),
            calls_in_flight: 20_000,
            may_act: Arc::new(|| true),
        };
        let runtimes = parts.runtimes.clone();
        let calls = Calls::new(parts);
        late.connect(calls.clone());

        let view = views.get(TENANT).await.unwrap();
        let new =
            NewSession { principal: principal.id, suggested: None, metadata: BTreeMap::new(), ttl: None };
        let session = sessions.create(&view.tenant, new, Origin::default()).await.unwrap().id;
        let answers = Arc::new(Semaphore::new(0));
        let (dispatches, read) = connect(&runtimes, Arc::clone(&answers)).await;
        let token = token.reveal().to_owned();
        Self {
            calls,
            decisions: access,
            views,
            sessions,
            store,
            agent: principal.id,
            access: authenticator,
            tokens,
            clock,
            token,
            session,
            answers,
            late,
            shards,
            ahead,
            dispatches,
            read,
            _audit: audit,
        }
    }

    /// Makes a call as a front door does: authenticates the token, then invokes.
    pub(crate) async fn call(
        &self,
        tool: &str,
        invocation: String,
        args: &'static [u8],
    ) -> Result<InvokeResponse> {
        let caller = self.caller().await?;
        self.calls.invoke(caller, self.request(tool, invocation, args)).await
    }

    /// Waits until the Host has read what the Runtime sent of its first stream or held call, and that is as far as it comes
    /// without the reader and the store.
    pub(crate) async fn has_read(&self) {
        self.read.clone().wait_for(|read| *read > 0).await.unwrap();
        for _ in 0..100 {
            yield_now().await;
        }
    }

    /// Waits until the Runtime was given so many calls.
    pub(crate) async fn dispatched(&self, count: usize) {
        let given = async {
            while self.dispatches.lock().unwrap().len() < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), given).await.expect("the Runtime is given the calls");
    }

    /// As [`Pipeline::call`], with the answer in parts.
    pub(crate) async fn stream(
        &self,
        tool: &str,
        invocation: String,
    ) -> impl Stream<Item = Result<InvokeStreamResponse>> + Send + use<> {
        let caller = self.caller().await.unwrap();
        self.calls.invoke_stream(caller, self.request(tool, invocation, b"{}"))
    }

    fn request(&self, tool: &str, invocation: String, args: &'static [u8]) -> InvokeRequest {
        let call = FunctionCall { name: tool.into(), args_json: args.into(), ..FunctionCall::default() };
        InvokeRequest {
            session_id: self.session.to_string(),
            invocation_id: invocation,
            call: Some(call),
            // Of one that is never answered nothing more is to be seen.
            timeout_ms: if args == UNANSWERED { 100 } else { 0 },
            ..InvokeRequest::default()
        }
    }

    /// Ends the session, with whatever runs in it; returns when it has ended.
    pub(crate) async fn end_session(&self) {
        self.sessions.destroy(TENANT, self.session, true, Origin::default()).await.unwrap();
    }

    /// Counts the dispatches that the store knows as somebody's.
    pub(crate) async fn named_dispatches(&self) -> usize {
        let range = Range::prefix(&row_key(TenantId::PLATFORM, Kind::DISPATCH, b""));
        let rows = self.store.run(move |tx| {
            let range = range.clone();
            Box::pin(async move { tx.range_raw(range).await })
        });
        rows.await.map_err(|error: aesp_storage::Error| error).unwrap().len()
    }

    /// Asks for the permit of a tool that runs at the agent.
    pub(crate) async fn authorize(&self, tool: &str) -> Result<AuthorizeToolCallResponse> {
        let call =
            FunctionCall { name: tool.into(), args_json: (&b"{}"[..]).into(), ..FunctionCall::default() };
        let request = AuthorizeToolCallRequest {
            session_id: self.session.to_string(),
            call: Some(call),
            ..AuthorizeToolCallRequest::default()
        };
        self.calls.authorize_local(self.caller().await?, request).await
    }

    /// Reports the result of a tool that ran at the agent for so long.
    pub(crate) async fn log(&self, invocation: &str, took: Duration) -> Result<LogToolResultResponse> {
        let result = FunctionResult {
            status: ResultStatus::Success.into(),
            content_json: (&b"{}"[..]).into(),
            ..FunctionResult::default()
        };
        let request = LogToolResultRequest {
            session_id: self.session.to_string(),
            invocation_id: invocation.into(),
            result: Some(result),
            execution_time_ms: u64::try_from(took.as_millis()).unwrap(),
            ..LogToolResultRequest::default()
        };
        self.calls.log_local(self.caller().await?, request).await
    }

    /// Returns what is known of a call.
    pub(crate) async fn status(&self, invocation: &str) -> InvocationStatus {
        self.calls.outcome(TENANT, self.session, invocation).await.unwrap().status()
    }

    /// Revokes the agent's token, and lets the views know.
    pub(crate) async fn revoke_token(&self) {
        let claims = self.tokens.verify(&self.token, self.clock.now()).unwrap();
        let revoked = self.store.run(move |tx| {
            let claims = Arc::clone(&claims);
            Box::pin(async move { aesp_identity::revoke_access_token(tx, &claims).await })
        });
        revoked.await.unwrap();
        self.views.refresh(TENANT).await.unwrap();
    }

    pub(crate) async fn caller(&self) -> Result<Caller> {
        let source = Source {
            ip: Some([127, 0, 0, 1].into()),
            user_agent: "test".into(),
            correlation_id: "0123456789abcdefghijklmnop".into(),
        };
        self.access.by_token(&self.token, source).await
    }
}

async fn populate(tx: &Transaction, entropy: &Entropy, now: Timestamp) -> Result<aesp_identity::Principal> {
    aesp_tenant::create_platform(tx, now).await?;
    aesp_identity::ensure_signing_key(tx, entropy, now).await?;
    let (name, display_name) = ("acme".into(), String::new());
    let quotas = aesp_tenant::Quotas::default();
    let new = NewTenant { id: TENANT, name, display_name, quotas, metadata: BTreeMap::new() };
    aesp_tenant::create(tx, new, now).await?;
    let kind = PrincipalType::ServiceAccount;
    let agent = aesp_identity::create_principal(tx, TENANT, kind, &"agent".parse()?, entropy, now).await?;
    let role = Role {
        name: "caller".into(),
        description: String::new(),
        inherits: vec!["agent".into()],
        grants: vec![Grant { actions: vec!["tool.invoke".into()], resources: vec!["*".into()] }],
        built_in: false,
    };
    aesp_policy::create_role(tx, TENANT, &role).await?;
    aesp_policy::assign_role(tx, TENANT, agent.id, "caller", None).await?;
    let tools =
        [("read", Effects::ReadOnly), ("write", Effects::NonIdempotent), ("count", Effects::ReadOnly)];
    for (tool, effects) in tools {
        let draft = ContractDraft {
            name: tool.into(),
            version: "1.0.0".into(),
            parameters_json: br#"{"type":"object"}"#.to_vec(),
            return_type_json: br#"{"type":"object"}"#.to_vec(),
            effects: effects.into(),
            risk: Risk::Low.into(),
            timeout_ms: 30_000,
            supports_streaming: tool == "count",
            chunk_schema_json: if tool == "count" { br#"{"type":"integer"}"#.to_vec() } else { Vec::new() },
            security_classification: "INTERNAL".into(),
            ..ContractDraft::default()
        };
        let contract = Contract::from_draft(&draft, BTreeSet::new())?;
        aesp_catalog::create_draft(tx, TENANT, &contract, ContractOrigin::Administrator).await?;
        aesp_catalog::activate(tx, TENANT, (tool, "1.0.0"), None, agent.id, now).await?;
    }
    Ok(agent)
}

async fn load_tokens(store: &Store) -> Arc<Tokens> {
    let loaded = store.run(|tx| Box::pin(Tokens::load(tx, TokenOptions::default())));
    Arc::new(loaded.await.unwrap())
}

/// Connects the Runtime, and returns when it may be called what it will have been given.
async fn connect(
    runtimes: &Runtimes,
    answers: Arc<Semaphore>,
) -> (Arc<Mutex<Vec<DispatchId>>>, watch::Receiver<u32>) {
    let (sender, receiver) = mpsc::channel::<std::result::Result<RuntimeFrame, Status>>(65_536);
    let inbound =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let peer = PeerIdentity { identities: vec!["spiffe://test/runtime".into()], address: None };
    let mut frames = runtimes.connect(peer, inbound).await.unwrap();
    let say = |frame| RuntimeFrame { frame: Some(frame) };
    let announcement = AnnounceRuntime {
        runtime_id: "runtime".into(),
        protocol_version: "1.0".into(),
        initial_credits: 4_096,
        metadata: [("instance".into(), "one".into())].into(),
        ..AnnounceRuntime::default()
    };
    sender.send(Ok(say(Frame::Announce(announcement)))).await.unwrap();
    assert!(matches!(frames.next().await.unwrap().unwrap().frame, Some(Host::Announced(_))));
    let wishes =
        FulfillTools { tool_names: ["read", "write", "count"].map(Into::into).into(), ..Default::default() };
    // Answered in its turn, behind whatever was sent before.
    let wishes = say(Frame::Fulfill(wishes));
    sender.send(Ok(wishes.clone())).await.unwrap();
    match frames.next().await.unwrap().unwrap().frame {
        Some(Host::Fulfilled(answer)) => assert_eq!(answer.fulfilled.len(), 3, "{answer:?}"),
        other => panic!("{other:?}"),
    }
    let given = Arc::new(Mutex::new(Vec::new()));
    let dispatches = Arc::clone(&given);
    let (reads, read) = watch::channel(0);
    tokio::spawn(async move {
        let mut refused = false;
        while let Some(Ok(frame)) = frames.next().await {
            if let Some(Host::Fulfilled(_)) = frame.frame {
                reads.send_modify(|read| *read += 1);
            }
            if let Some(Host::Call(call)) = frame.frame {
                given.lock().unwrap().push(DispatchId::from_slice(&call.dispatch_id).unwrap());
                if call.streaming {
                    for chunk_id in 0..3 {
                        let (dispatch_id, payload) = (call.dispatch_id.clone(), b"0".to_vec());
                        let chunk = StreamChunk { chunk_id, payload, dispatch_id, ..StreamChunk::default() };
                        sender.send(Ok(say(Frame::Chunk(chunk)))).await.unwrap();
                    }
                    sender.send(Ok(wishes.clone())).await.unwrap();
                    continue;
                }
                let args = call.call.as_ref().map(|call| call.args_json.clone()).unwrap_or_default();
                let refuses = args == REFUSED_ONCE || args == REFUSED_THEN_HELD;
                let not_run = refuses && !std::mem::replace(&mut refused, refuses);
                if args == UNANSWERED {
                    continue;
                }
                let held = !not_run && (args == HELD || args == REFUSED_THEN_HELD);
                if held {
                    answers.acquire().await.unwrap().forget();
                }
                let result = ToolResult { not_run, ..answer(call) };
                sender.send(Ok(say(Frame::Result(result)))).await.unwrap();
                if held {
                    sender.send(Ok(wishes.clone())).await.unwrap();
                }
            }
        }
    });
    (dispatches, read)
}

/// Arguments that the Runtime never answers.
pub(crate) const UNANSWERED: &[u8] = br#"{"text":"unanswered"}"#;

/// Arguments that the Runtime answers when it is let.
pub(crate) const HELD: &[u8] = br#"{"text":"held"}"#;

/// Arguments that it refuses the first time, as [`REFUSED_ONCE`], and then answers when it is let.
pub(crate) const REFUSED_THEN_HELD: &[u8] = br#"{"text":"refused, then held"}"#;

/// Arguments that the Runtime refuses before it runs anything, the first time.
pub(crate) const REFUSED_ONCE: &[u8] = br#"{"text":"refused once"}"#;

fn answer(call: ToolCall) -> ToolResult {
    let result = FunctionResult {
        status: ResultStatus::Success.into(),
        content_json: call.call.unwrap_or_default().args_json,
        ..FunctionResult::default()
    };
    ToolResult { dispatch_id: call.dispatch_id, result: Some(result), ..ToolResult::default() }
}

/// Lets the one Runtime fulfil whatever the tenant has.
struct Everything(Views, Arc<AtomicU64>);

impl Directory for Everything {
    fn registration(&self, runtime_id: &str) -> Option<Arc<Registration>> {
        Some(Arc::new(Registration {
            runtime_id: runtime_id.to_owned(),
            certificate_identity: "spiffe://test/runtime".into(),
            tenants: vec![TENANT],
            contracts: vec!["*".into()],
            zones: Vec::new(),
            created_at: Timestamp(0),
            revoked: false,
        }))
    }

    fn tenant(&self, id_or_name: &str) -> Option<TenantId> {
        id_or_name.parse().ok()
    }

    fn contract(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<&str>,
    ) -> std::result::Result<ContractReference, String> {
        let view = self.0.peek(tenant).ok_or("no view")?;
        Ok(view.catalog.find(name, version).ok_or("no contract")?.contract().reference())
    }

    fn rights(&self, tenant: TenantId) -> Option<Rights> {
        let mut rights = self.0.peek(tenant)?.rights();
        rights.tenant.0 += self.1.load(Ordering::SeqCst);
        Some(rights)
    }

    fn contracts(&self, tenant: TenantId) -> Vec<ContractReference> {
        self.0.peek(tenant).map(|view| view.catalog.references()).unwrap_or_default()
    }

    fn development(&self, _: TenantId) -> bool {
        false
    }

    fn check_draft(&self, _: TenantId, _: SessionId, _: &ContractDraft) -> std::result::Result<(), String> {
        Err("not here".into())
    }
}

struct Everybody;

#[async_trait]
impl Admission for Everybody {
    async fn admit(&self, _: &[TenantId]) -> Result<RuntimeSlot, Error> {
        Ok(Box::new(()))
    }
}
