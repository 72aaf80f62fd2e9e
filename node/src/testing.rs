//! A node without its front doors, on a store that does what a test says.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

use aesp_call::{Caller, Source};
use aesp_proto::{
    Entropy, Operations, SystemClock, TenantId,
    v1::{
        AuthenticateServiceAccountRequest, CreateServiceAccountRequest, CreateServiceAccountResponse,
        CreateTenantRequest, Quotas,
        enterprise_authentication_service_server::EnterpriseAuthenticationService as _,
        enterprise_identity_service_server::EnterpriseIdentityService as _,
        tenant_service_server::TenantService as _,
    },
};
use aesp_session::{Begin, Depth, NewSession, Running};
use aesp_storage::{
    Commit, Engine, Error, FaultEngine, Faults, FileKeyProvider, Kind, MemoryEngine, MemoryOptions, Mutation,
    Snapshot, Store, Versionstamp, Watch,
};
use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use tonic::Request;

use crate::{
    Build, Config,
    services::{Context, authentication::Authentication, identity::Identity, tenant::Tenants},
    wiring,
};

/// What a store holds until it is told to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Hold {
    Nothing,
    /// The answer to the next commit with a record, which is made.
    Commit,
    /// The first read of the [caller](CALLER) after it.
    ReadAfterCommit,
    Read,
}

tokio::task_local! {
    /// Set where the caller's request runs, so that the reads of the node's own duties don't fall into the trap.
    pub(crate) static CALLER: ();
}

/// An engine that does what a test says.
pub(crate) struct Trap {
    inner: FaultEngine,
    pub(crate) faults: Faults,
    /// Lets one commit through, and then no read.
    set: AtomicBool,
    /// Watches never fire.
    deaf: Arc<AtomicBool>,
    holds: AtomicU8,
    held: watch::Sender<bool>,
    lets: Semaphore,
}

impl Trap {
    /// Lets the next commit through, and then no read.
    pub(crate) fn spring(&self) {
        self.set.store(true, Ordering::SeqCst);
    }

    /// Has the node hear of no change any more that others make.
    pub(crate) fn deafen(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    pub(crate) fn hold(&self, what: Hold) {
        self.holds.store(what as u8, Ordering::SeqCst);
    }

    /// Waits until something is held.
    pub(crate) async fn holds_one(&self) {
        self.held.subscribe().wait_for(|held| *held).await.unwrap();
    }

    pub(crate) fn release(&self) {
        self.lets.add_permits(1);
    }

    /// Goes from one state to another, if it is in that.
    fn next(&self, from: Hold, to: Hold) -> bool {
        self.holds.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    async fn wait(&self) {
        self.held.send_replace(true);
        self.lets.acquire().await.unwrap().forget();
        self.held.send_replace(false);
    }
}

/// Tells whether an audit event is written.
fn is_event(mutation: &Mutation) -> bool {
    const EVENT: [u8; 2] = Kind::AUDIT_EVENT.to_bytes();
    matches!(mutation, Mutation::StampedKey { prefix, .. } if prefix.get(16..18) == Some(&EVENT))
}

#[async_trait]
impl Engine for Trap {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        let snapshot = self.inner.snapshot().await;
        if CALLER.try_get().is_ok() && self.next(Hold::Read, Hold::Nothing) {
            self.wait().await;
        }
        snapshot
    }

    async fn commit(&self, commit: Commit) -> Result<Versionstamp, Error> {
        let recorded = commit.mutations.iter().any(is_event);
        let committed = self.inner.commit(commit).await;
        if committed.is_ok() && self.set.swap(false, Ordering::SeqCst) {
            self.faults.fail_reads(Some(Error::unavailable("the trap has closed")));
        }
        if recorded && self.next(Hold::Commit, Hold::Nothing) {
            self.wait().await;
        }
        if recorded {
            self.next(Hold::ReadAfterCommit, Hold::Read);
        }
        committed
    }

    fn watch(&self, key: &[u8]) -> Watch {
        let (watch, deaf) = (self.inner.watch(key), Arc::clone(&self.deaf));
        Box::pin(async move {
            let fired = watch.await;
            if deaf.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            fired
        })
    }
}

/// A lone node with an administrator.
pub(crate) struct World {
    pub(crate) context: Context,
    pub(crate) trap: Arc<Trap>,
    /// The same store without the trap, as another node has it.
    pub(crate) other: Store,
    pub(crate) administrator: Caller,
    _folder: tempfile::TempDir,
    _host: crate::Host,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let provider = Arc::new(FileKeyProvider::create(&folder.path().join("master.key")).unwrap());
        let base = Arc::new(MemoryEngine::new(MemoryOptions::default()));
        let (inner, faults) = FaultEngine::new(Arc::<MemoryEngine>::clone(&base));
        let trap = Arc::new(Trap {
            inner,
            faults,
            set: AtomicBool::new(false),
            deaf: Arc::default(),
            holds: AtomicU8::new(Hold::Nothing as u8),
            held: watch::Sender::new(false),
            lets: Semaphore::new(0),
        });
        let store = |engine: Arc<dyn Engine>, seed| {
            let provider = Arc::<FileKeyProvider>::clone(&provider);
            Store::new(engine, provider, Arc::new(SystemClock), Entropy::from_seed(seed))
        };
        let (store, other) = (store(Arc::<Trap>::clone(&trap), 7), store(base, 8));
        store.initialise().await.unwrap();
        let api_key = wiring::make_administrator(&store).await.unwrap();
        // Longer than any test: what ends does not end because the lease does.
        let cluster = crate::config::Cluster { lease_ms: 60_000, ..Default::default() };
        let config = Config { cluster: Some(cluster), ..Config::default() };
        let registry = prometheus::Registry::new();
        let keys = crate::keys::Metrics::register(&registry).unwrap();
        let observed = wiring::Observed { registry, keys };
        let (host, context) =
            wiring::assemble(store, None, &config, None, &Build::shipped(), observed).await.unwrap();
        let administrator = login(&context, api_key).await;
        Self { context, trap, other, administrator, _folder: folder, _host: host }
    }

    /// Makes a request as the guard would let it through.
    pub(crate) fn request<T>(&self, rpc: &str, message: T) -> Request<T> {
        request_by(&self.administrator, rpc, message)
    }

    pub(crate) async fn tenant(&self) -> String {
        let request = CreateTenantRequest {
            name: "acme".into(),
            quotas: Some(Quotas { sessions: 9, calls_in_flight: 9, calls_per_second: 9, runtimes: 9 }),
            ..CreateTenantRequest::default()
        };
        let request = self.request("TenantService/CreateTenant", request);
        Tenants(self.context.clone()).create_tenant(request).await.unwrap().into_inner().tenant_id
    }

    /// Makes an account of the tenant with one role.
    pub(crate) async fn account(&self, tenant: &str, name: &str, role: &str) -> CreateServiceAccountResponse {
        let request = CreateServiceAccountRequest {
            tenant_id: tenant.into(),
            name: name.into(),
            roles: vec![role.into()],
        };
        let request = self.request("EnterpriseIdentityService/CreateServiceAccount", request);
        Identity(self.context.clone()).create_service_account(request).await.unwrap().into_inner()
    }

    /// Returns an account of the tenant, and a call that runs in a session of it.
    pub(crate) async fn running(&self, tenant: &str) -> (String, Running) {
        let account = self.account(tenant, "assistant", "agent").await.principal.unwrap().principal_id;
        let principal = account.parse().unwrap();
        let tenant: TenantId = tenant.parse().unwrap();
        let view = self.context.views.get(tenant).await.unwrap();
        let new = NewSession { principal, suggested: None, metadata: Default::default(), ttl: None };
        let who = aesp_session::Origin::default();
        let sessions = &self.context.sessions;
        let session = sessions.create(&view.tenant, new, who).await.unwrap();
        let begun = sessions.begin(tenant, session.id, principal, "one", [0; 32], Depth::Outermost).await;
        let Begin::New(running) = begun.unwrap() else { panic!("nothing ran before") };
        (account, running)
    }
}

/// Makes a request as the guard would let it through for this caller.
pub(crate) fn request_by<T>(caller: &Caller, rpc: &str, message: T) -> Request<T> {
    let operation = Operations::load().get(&format!("/aesp.v1.{rpc}")).unwrap().clone();
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller.clone());
    request.extensions_mut().insert(operation);
    request
}

/// Authenticates an account.
pub(crate) async fn login(context: &Context, api_key: String) -> Caller {
    let login = Request::new(AuthenticateServiceAccountRequest { api_key });
    let tokens = Authentication(context.clone()).authenticate_service_account(login).await.unwrap();
    let token = tokens.into_inner().access_token;
    context.authenticator.by_token(&token, Source::default()).await.unwrap()
}
