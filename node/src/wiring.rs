//! Builds the components and connects them. The only place that knows them all.

use std::{path::Path, sync::Arc, time::Duration};

use aesp_audit::{Recorder, Refused};
use aesp_call::{Access, Authenticator, CallParts, Calls, Late, Views};
use aesp_cluster::Ownership;
use aesp_identity::{TokenOptions, Tokens};
use aesp_proto::{Clock, Entropy, Incarnation, SystemClock, TenantId};
use aesp_runtime::Runtimes;
use aesp_session::Sessions;
use aesp_storage::{FileKeyProvider, KeyProvider, LmdbOptions, MemoryOptions, Store};
use aesp_supervision::Supervisor;
use aesp_tenant::Tenants;
use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Host,
    config::Engine,
    directory::{RuntimeQuota, ViewDirectory},
    duties,
    end::End,
    guard::Guard,
    services::{self, Context},
};

/// Opens the store, starts the actors and makes the services.
///
/// # Errors
/// When the store can't be opened or its master key is wrong.
pub async fn build(config: &Config) -> anyhow::Result<Host> {
    let store = open_store(config, open_key(&config.keys.master_key_file)?).await?;
    Ok(assemble(store, config).await?.0)
}

/// Starts the actors on a store and makes the services, and what these share.
pub(crate) async fn assemble(store: Store, config: &Config) -> anyhow::Result<(Host, Context)> {
    store.initialise().await.context("the store can't be used")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy = Entropy::from_system();
    let registry = prometheus::Registry::new();

    let root = Supervisor::root("node", aesp_supervision::Metrics::new(&registry)?).await?;
    let options = aesp_audit::Options {
        metrics: aesp_audit::Metrics::register(&registry)?,
        ..aesp_audit::Options::default()
    };
    let started = Recorder::start(store.clone(), Arc::clone(&clock), entropy.clone(), options).await;
    let (recorder, audit) = started.context("the audit log can't be written")?;
    let shards = claim_shards(&store).await.context("the shards can't be claimed")?;
    let tokens = load_tokens(&store, config, &*clock, &entropy).await.context("no signing key")?;
    let views = Views::start(store.clone()).await.context("the platform's rights can't be loaded")?;
    let tenants = Tenants::new(root.clone(), aesp_tenant::Metrics::new(&registry)?);

    let sessions = Sessions::start(
        aesp_session::Context {
            store: store.clone(),
            recorder: recorder.clone(),
            tenants: tenants.clone(),
            clock: Arc::clone(&clock),
            entropy: entropy.clone(),
            shards: shards.clone(),
            supervisor: root.clone(),
            metrics: aesp_session::Metrics::new(&registry)?,
        },
        aesp_session::Options::default(),
    )
    .await?;
    let late = Arc::new(Late::default());
    let runtimes = Runtimes::start(aesp_runtime::Wiring {
        directory: Arc::new(ViewDirectory(views.clone())),
        admission: Arc::new(RuntimeQuota { views: views.clone(), tenants: tenants.clone() }),
        late: Arc::<Late>::clone(&late),
        recorder: recorder.clone(),
        supervisor: root.clone(),
        clock: Arc::clone(&clock),
        entropy: entropy.clone(),
        // This node has claimed every shard, and nobody takes one from it.
        lease: Arc::new(|| Duration::MAX),
        metrics: aesp_runtime::Metrics::new(&registry)?,
        options: aesp_runtime::Options::default(),
    })
    .await?;

    let (at, log) = (Arc::clone(&clock), recorder.clone());
    let authenticator = Authenticator::new(store.clone(), Arc::clone(&tokens), views.clone(), log, at);
    let (at, log) = (Arc::clone(&clock), recorder.clone());
    let access = Access::new(views.clone(), authenticator.clone(), log, entropy.clone(), at);
    let calls = Calls::new(CallParts {
        access: access.clone(),
        tenants: tenants.clone(),
        sessions: sessions.clone(),
        runtimes: runtimes.clone(),
        shards,
        store: store.clone(),
    });
    late.connect(calls.clone());

    let context = Context {
        store,
        views,
        authenticator: authenticator.clone(),
        access,
        recorder: recorder.clone(),
        tokens: Arc::clone(&tokens),
        tenants,
        sessions,
        runtimes: runtimes.clone(),
        calls: calls.clone(),
        entropy: entropy.clone(),
        clock,
    };
    let closing = CancellationToken::new();
    duties::start(&context, closing.clone());
    let routes = services::routes(&context, config.limits.message_bytes as usize);
    let guarded = routes.into_axum_router().layer(Guard::new(authenticator, entropy));
    let not_escalated = duties::escalation(root.clone());
    let log = recorder.clone();
    let host = Host {
        routes: guarded.into(),
        jwks: Arc::new(move || tokens.jwks()),
        ready: Arc::new(not_escalated),
        registry,
        drain: Box::new(End::new(runtimes, calls, recorder, audit, root, closing)),
        refused: Arc::new(move |ip, reason| {
            log.observe_refused(Refused {
                source_ip: Some(ip),
                action: "tls.handshake".into(),
                reason: reason.into(),
                tenant: None,
            });
        }),
    };
    Ok((host, context))
}

/// Prepares a new store and makes the platform's first administrator; returns the API key's text, which is shown once.
///
/// # Errors
/// When the store can't be created or has an administrator already.
pub async fn first_administrator(config: &Config) -> anyhow::Result<String> {
    let path = &config.keys.master_key_file;
    let key = if path.exists() { FileKeyProvider::open(path)? } else { FileKeyProvider::create(path)? };
    let store = open_store(config, Arc::new(key)).await?;
    store.initialise().await?;
    make_administrator(&store).await
}

pub(crate) async fn make_administrator(store: &Store) -> anyhow::Result<String> {
    let (clock, entropy) = (SystemClock, Entropy::from_system());
    let key = store
        .run(move |tx| {
            let entropy = entropy.clone();
            Box::pin(async move {
                let now = clock.now();
                let name = "admin".parse()?;
                let (admin, key) =
                    aesp_identity::create_first_administrator(tx, &name, &entropy, now).await?;
                aesp_tenant::create_platform(tx, now).await?;
                aesp_identity::ensure_signing_key(tx, &entropy, now).await?;
                aesp_policy::assign_role(tx, TenantId::PLATFORM, admin.id, "platform-admin", None).await?;
                Ok::<_, aesp_proto::Error>(key)
            })
        })
        .await?;
    Ok(key.reveal().to_string())
}

fn open_key(path: &Path) -> anyhow::Result<Arc<dyn KeyProvider>> {
    Ok(Arc::new(FileKeyProvider::open(path)?))
}

async fn open_store(config: &Config, key: Arc<dyn KeyProvider>) -> anyhow::Result<Store> {
    match config.store.engine() {
        Some(Engine::Lmdb(path)) => {
            let options = LmdbOptions {
                map_size_bytes: (config.store.map_size_gib as usize) << 30,
                ..LmdbOptions::default()
            };
            Ok(Store::lmdb(&path, options, key).await?)
        }
        Some(Engine::Memory) => Ok(Store::memory(MemoryOptions::default(), key)),
        None => anyhow::bail!("store.path names no engine: use lmdb:/path or memory"),
    }
}

async fn claim_shards(store: &Store) -> Result<Ownership, aesp_storage::Error> {
    let (incarnation, epochs) = store
        .run(|tx| {
            Box::pin(async move {
                let incarnation = tx.next_incarnation().await?;
                Ok((Incarnation(incarnation), tx.claim_shards(incarnation).await?))
            })
        })
        .await?;
    Ok(Ownership::all(incarnation, &epochs))
}

async fn load_tokens(
    store: &Store,
    config: &Config,
    clock: &dyn Clock,
    entropy: &Entropy,
) -> Result<Arc<Tokens>, aesp_identity::Error> {
    let now = clock.now();
    let entropy = entropy.clone();
    store
        .run(move |tx| {
            let entropy = entropy.clone();
            Box::pin(async move { aesp_identity::ensure_signing_key(tx, &entropy, now).await })
        })
        .await?;
    let options = TokenOptions {
        issuer: config.tokens.issuer.clone(),
        audience: config.tokens.audience.clone(),
        lifetime: Duration::from_secs(config.tokens.access_ttl_seconds.into()),
        ..TokenOptions::default()
    };
    let tokens = store.run(move |tx| {
        let options = options.clone();
        Box::pin(async move { Tokens::load(tx, options).await })
    });
    Ok(Arc::new(tokens.await?))
}
