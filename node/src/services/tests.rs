//! What must end does end, also when the rights can't be read after the change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aesp_call::{Caller, Source};
use aesp_proto::{
    Entropy, Operations, SystemClock,
    v1::{
        AnnounceRuntime, AuthenticateServiceAccountRequest, CreateServiceAccountRequest, CreateTenantRequest,
        RegisterRuntimeRequest, RevokeRuntimeRequest, RevokeServiceAccountRequest, RuntimeFrame,
        SuspendTenantRequest, enterprise_authentication_service_server::EnterpriseAuthenticationService as _,
        enterprise_identity_service_server::EnterpriseIdentityService as _, host_frame, runtime_frame,
        runtime_registry_service_server::RuntimeRegistryService as _,
        tenant_service_server::TenantService as _,
    },
};
use aesp_runtime::PeerIdentity;
use aesp_session::{Begin, NewSession, Running};
use aesp_storage::{
    Commit, Engine, Error as StoreError, FaultEngine, Faults, FileKeyProvider, MemoryEngine, MemoryOptions,
    Snapshot, Store, Versionstamp, Watch,
};
use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use tokio::time::timeout;
use tonic::Request;

use super::{
    Context, authentication::Authentication, identity::Identity, registry::Registry, tenant::Tenants,
};
use crate::{Build, Config, wiring};

const SOON: Duration = Duration::from_secs(20);
const IDENTITY: &str = "spiffe://test/runtime/worker";

/// Lets one commit through, and then no read.
struct Trap {
    inner: FaultEngine,
    faults: Faults,
    set: AtomicBool,
}

#[async_trait]
impl Engine for Trap {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.inner.snapshot().await
    }

    async fn commit(&self, commit: Commit) -> Result<Versionstamp, StoreError> {
        let committed = self.inner.commit(commit).await;
        if committed.is_ok() && self.set.swap(false, Ordering::SeqCst) {
            self.faults.fail_reads(Some(StoreError::unavailable("the trap has closed")));
        }
        committed
    }

    fn watch(&self, key: &[u8]) -> Watch {
        self.inner.watch(key)
    }
}

struct World {
    context: Context,
    trap: Arc<Trap>,
    administrator: Caller,
    _folder: tempfile::TempDir,
    _host: crate::Host,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let provider = FileKeyProvider::create(&folder.path().join("master.key")).unwrap();
        let (inner, faults) = FaultEngine::new(Arc::new(MemoryEngine::new(MemoryOptions::default())));
        let trap = Arc::new(Trap { inner, faults, set: AtomicBool::new(false) });
        let engine = Arc::clone(&trap) as Arc<dyn Engine>;
        let store = Store::new(engine, Arc::new(provider), Arc::new(SystemClock), Entropy::from_seed(7));
        store.initialise().await.unwrap();
        let api_key = wiring::make_administrator(&store).await.unwrap();
        // Longer than any test: what ends does not end because the lease does.
        let cluster = crate::config::Cluster { lease_ms: 60_000, ..Default::default() };
        let config = Config { cluster: Some(cluster), ..Config::default() };
        let registry = prometheus::Registry::new();
        let keys = crate::keys::Metrics::register(&registry).unwrap();
        let observed = wiring::Observed { registry, keys };
        let (host, context) =
            wiring::assemble(store, &config, None, &Build::shipped(), observed).await.unwrap();
        let login = Request::new(AuthenticateServiceAccountRequest { api_key });
        let tokens = Authentication(context.clone()).authenticate_service_account(login).await.unwrap();
        let token = tokens.into_inner().access_token;
        let administrator = context.authenticator.by_token(&token, Source::default()).await.unwrap();
        Self { context, trap, administrator, _folder: folder, _host: host }
    }

    /// Makes a request as the guard would let it through.
    fn request<T>(&self, rpc: &str, message: T) -> Request<T> {
        let operation = Operations::load().get(&format!("/aesp.v1.{rpc}")).unwrap().clone();
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.administrator.clone());
        request.extensions_mut().insert(operation);
        request
    }

    async fn tenant(&self) -> String {
        let request = CreateTenantRequest {
            name: "acme".into(),
            quotas: Some(aesp_proto::v1::Quotas {
                sessions: 9,
                calls_in_flight: 9,
                calls_per_second: 9,
                runtimes: 9,
            }),
            ..CreateTenantRequest::default()
        };
        let request = self.request("TenantService/CreateTenant", request);
        Tenants(self.context.clone()).create_tenant(request).await.unwrap().into_inner().tenant_id
    }

    /// Returns an account of the tenant, and a call that runs in a session of it.
    async fn running(&self, tenant: &str) -> (String, Running) {
        let request = CreateServiceAccountRequest {
            tenant_id: tenant.into(),
            name: "assistant".into(),
            roles: vec!["agent".into()],
        };
        let request = self.request("EnterpriseIdentityService/CreateServiceAccount", request);
        let made = Identity(self.context.clone()).create_service_account(request).await.unwrap().into_inner();
        let account = made.principal.unwrap().principal_id;
        let principal = account.parse().unwrap();
        let tenant = tenant.parse().unwrap();
        let view = self.context.views.get(tenant).await.unwrap();
        let new = NewSession { principal, suggested: None, metadata: Default::default(), ttl: None };
        let who = aesp_session::Origin::default();
        let session = self.context.sessions.create(&view.tenant, new, who).await.unwrap();
        let begun = self.context.sessions.begin(tenant, session.id, principal, "one", [0; 32]).await;
        let Begin::New(running) = begun.unwrap() else { panic!("nothing ran before") };
        (account, running)
    }

    fn spring(&self) {
        self.trap.set.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_revoked_account_loses_its_calls_though_the_rights_can_not_be_read() {
    let world = World::new().await;
    let tenant = world.tenant().await;
    let (principal_id, running) = world.running(&tenant).await;
    let request = RevokeServiceAccountRequest { tenant_id: tenant, principal_id };
    let request = world.request("EnterpriseIdentityService/RevokeServiceAccount", request);
    world.spring();
    // Refused, or answered because the node has dropped the rights it could not read: either way nothing runs on.
    drop(Identity(world.context.clone()).revoke_service_account(request).await);
    timeout(SOON, running.cancellation().cancelled()).await.expect("the call runs on");
}

#[tokio::test]
async fn a_suspended_tenant_loses_its_calls_though_the_rights_can_not_be_read() {
    let world = World::new().await;
    let tenant = world.tenant().await;
    let (_, running) = world.running(&tenant).await;
    let request = SuspendTenantRequest { tenant_id: tenant, reason: "test".into() };
    let request = world.request("TenantService/SuspendTenant", request);
    world.spring();
    // Refused, or answered because the node has dropped the rights it could not read: either way nothing runs on.
    drop(Tenants(world.context.clone()).suspend_tenant(request).await);
    timeout(SOON, running.cancellation().cancelled()).await.expect("the call runs on");
}

#[tokio::test]
async fn a_revoked_runtime_is_cut_off_though_the_registrations_can_not_be_read() {
    let world = World::new().await;
    let tenant = world.tenant().await;
    let request = RegisterRuntimeRequest {
        runtime_id: "worker".into(),
        certificate_identity: IDENTITY.into(),
        tenant_ids: vec![tenant.clone()],
        contracts: vec!["*".into()],
        security_zones: vec![],
    };
    let request = world.request("RuntimeRegistryService/RegisterRuntime", request);
    Registry(world.context.clone()).register_runtime(request).await.unwrap();
    world.context.views.get(tenant.parse().unwrap()).await.unwrap();

    let announce = AnnounceRuntime {
        runtime_id: "worker".into(),
        protocol_version: "1.0".into(),
        initial_credits: 1,
        ..AnnounceRuntime::default()
    };
    let announce = RuntimeFrame { frame: Some(runtime_frame::Frame::Announce(announce)) };
    let frames = stream::iter([Ok(announce)]).chain(stream::pending());
    let peer = PeerIdentity { identities: vec![IDENTITY.into()], address: None };
    let mut heard = world.context.runtimes.connect(peer, frames).await.unwrap();
    let first = timeout(SOON, heard.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first.frame, Some(host_frame::Frame::Announced(_))), "{first:?}");

    let request = RevokeRuntimeRequest { runtime_id: "worker".into() };
    let request = world.request("RuntimeRegistryService/RevokeRuntime", request);
    world.spring();
    assert!(Registry(world.context.clone()).revoke_runtime(request).await.is_err());
    let cut_off = async { while let Some(Ok(_)) = heard.next().await {} };
    timeout(SOON, cut_off).await.expect("the connection is open still");
    assert!(!world.context.views.registrations().knows_identity(IDENTITY), "it may connect again");
}
