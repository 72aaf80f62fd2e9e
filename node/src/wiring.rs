//! Builds the components and connects them. The only place that knows them all.

use std::{sync::Arc, time::Duration};

use aesp_alerts::Alerts;
use aesp_audit::{Recorder, Refused};
use aesp_call::{Access, Authenticator, CallParts, Calls, Late, Views};
use aesp_cluster::Cluster;
use aesp_identity::{TokenOptions, Tokens};
use aesp_keys::Measured;
use aesp_proto::{Clock, Entropy, SystemClock, TenantId};
use aesp_runtime::Runtimes;
use aesp_search::Index;
use aesp_session::Sessions;
use aesp_sinks::Sinks;
use aesp_storage::{KeyProvider, LmdbOptions, MemoryOptions, Store};
use aesp_supervision::Supervisor;
use aesp_tenant::Tenants;
use aesp_witness::Witnessing;
use anyhow::Context as _;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Build, Config, Host,
    backup::{self, Backups},
    cluster::{Duties, Member, Others, Outside, QuotaLinks, Router, RuntimeLinks, Witness},
    components,
    config::Engine,
    directory::{RuntimeQuota, ViewDirectory},
    duties,
    end::End,
    followers,
    forward::{self, Forward, Owner},
    guard::Guard,
    joining::Door,
    keys,
    services::{self, Context, Followers},
    sinks, tiles,
};

/// How long a starting node waits until it owns something, or the cluster has nothing for it.
const TAKES_UP: Duration = Duration::from_secs(10);
const TAKES_UP_LOOK: Duration = Duration::from_millis(10);
/// How long a node that may not join tries to put that on record.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Opens the store, joins the cluster, starts the actors and makes the services.
///
/// # Errors
/// When the store can't be opened or its master key is wrong, or the cluster does not take the node.
pub async fn build(config: &Config, build: &Build) -> anyhow::Result<Host> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let member = Member::prepare(config, &clock).await?;
    let registry = prometheus::Registry::new();
    let metrics = keys::Metrics::register(&registry)?;
    let provider = Measured::new(keys::open(&config.keys).await?, metrics.provider());
    let key: Arc<dyn KeyProvider> = Arc::new(provider);
    let store = open_store(config, Arc::clone(&key)).await?;
    let observed = Observed { registry, keys: metrics };
    Ok(assemble(build.store(store), Some(key), config, member, build, observed).await?.0)
}

/// What was begun to be measured before the store was opened.
pub(crate) struct Observed {
    pub(crate) registry: prometheus::Registry,
    pub(crate) keys: keys::Metrics,
}

/// Joins the cluster, starts the actors on a store and makes the services, and what these share. Without the key that wraps those
/// of backups there are none.
pub(crate) async fn assemble(
    store: Store,
    key: Option<Arc<dyn KeyProvider>>,
    config: &Config,
    member: Option<Member>,
    build: &Build,
    observed: Observed,
) -> anyhow::Result<(Host, Context)> {
    store.hold_keys_for(config.keys.life());
    store.initialise().await.context("the store can't be used")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy = Entropy::from_system();
    let Observed { registry, keys: key_metrics } = observed;
    let archive = audit_archive(config).context("the archive of audit events can't be used")?;
    if let Some(archive) = &archive {
        // Before anybody reads a log. Only a test's store is assembled twice; it reads through what it had first.
        store.attach(Arc::new(aesp_retention::shelf(archive)));
    }
    aesp_backup::rebirth::check(&store)
        .await
        .map_err(|error| aesp_proto::Error::from(backup::Error::from(error)))?;
    let backups = match key {
        Some(key) => Backups::prepare(config, key, &registry).await.context("backups can't begin")?,
        None => Backups::Unconfigured,
    };

    let supervision = build.supervision(aesp_supervision::Metrics::new(&registry)?);
    let root = Supervisor::root("node", supervision).await?;
    let options = aesp_audit::Options {
        metrics: aesp_audit::Metrics::register(&registry)?,
        ..aesp_audit::Options::default()
    };
    let started = Recorder::start(store.clone(), Arc::clone(&clock), entropy.clone(), options).await;
    let (recorder, audit) = started.context("the audit log can't be written")?;
    let witness = Arc::new(Witness::start(recorder.clone(), entropy.clone()));
    // INVARIANT R1: known to the others first, and only then the rights are read: no change slips in between.
    let joined = join(&store, config, member.as_ref(), &registry, &clock, &entropy, &witness).await;
    if joined.is_err() {
        // Why not is on record before the process ends.
        drop(timeout(LAST_WORDS, witness.settle()).await);
    }
    let cluster = joined?;
    let ownership = cluster.ownership();
    let tokens = load_tokens(&store, config, &*clock, &entropy).await.context("no signing key")?;
    let views = Views::start(store.clone()).await.context("the platform's rights can't be loaded")?;
    let living = cluster.clone();
    let tenants = Tenants::start(aesp_tenant::Wiring {
        store: store.clone(),
        shards: ownership.clone(),
        living: Arc::new(move || living.living()),
        supervisor: root.clone(),
        metrics: aesp_tenant::Metrics::new(&registry)?,
    })
    .await?;

    let sessions = Sessions::start(
        aesp_session::Context {
            store: store.clone(),
            recorder: recorder.clone(),
            tenants: tenants.clone(),
            clock: Arc::clone(&clock),
            entropy: entropy.clone(),
            shards: ownership.clone(),
            supervisor: root.clone(),
            metrics: aesp_session::Metrics::new(&registry)?,
        },
        aesp_session::Options::default(),
    )
    .await?;
    let late = Arc::new(Late::default());
    let frames = cluster.lease();
    let runtimes = Runtimes::start(aesp_runtime::Wiring {
        directory: Arc::new(ViewDirectory(views.clone())),
        admission: Arc::new(RuntimeQuota { views: views.clone(), tenants: tenants.clone() }),
        late: Arc::<Late>::clone(&late),
        recorder: recorder.clone(),
        supervisor: root.clone(),
        clock: Arc::clone(&clock),
        entropy: entropy.clone(),
        lease: Arc::new(move || frames.remaining()),
        metrics: aesp_runtime::Metrics::new(&registry)?,
        options: runtime_options(config),
    })
    .await?;

    let (at, log) = (Arc::clone(&clock), recorder.clone());
    let authenticator = Authenticator::new(store.clone(), Arc::clone(&tokens), views.clone(), log, at);
    let (at, log) = (Arc::clone(&clock), recorder.clone());
    let access = Access::new(views.clone(), authenticator.clone(), log, entropy.clone(), at);
    let lease = cluster.lease();
    let acting = lease.clone();
    let calls = Calls::new(CallParts {
        access: access.clone(),
        tenants: tenants.clone(),
        sessions: sessions.clone(),
        runtimes: runtimes.clone(),
        shards: ownership.clone(),
        store: store.clone(),
        calls_in_flight: config.limits.calls_in_flight as usize,
        may_act: Arc::new(move || acting.is_held()),
    });
    late.connect(calls.clone());

    let searches = aesp_search::Metrics::new(&registry)?;
    let closing = CancellationToken::new();
    let sinks = Sinks::start(
        &config.audit.sinks,
        aesp_sinks::Wiring {
            store: store.clone(),
            recorder: recorder.clone(),
            clock: Arc::clone(&clock),
            entropy: entropy.clone(),
            secrets: sinks::secrets(&config.keys)?,
            metrics: aesp_sinks::Metrics::register(&registry)?,
            node: cluster.own(),
            name: config.node.name.clone(),
            closing: closing.clone(),
        },
    )
    .await?;

    let witnessing = Witnessing::new(
        config.audit.witness.clone(),
        config.audit.witness_quorum as usize,
        config.audit.anchor.clone(),
        aesp_witness::Wiring {
            store: store.clone(),
            ownership: ownership.clone(),
            recorder: recorder.clone(),
            clock: Arc::clone(&clock),
            entropy: entropy.clone(),
            secrets: sinks::secrets(&config.keys)?,
            metrics: aesp_witness::Metrics::register(&registry)?,
        },
    );
    let retention = aesp_retention::Duty::new(aesp_retention::Wiring {
        store: store.clone(),
        ownership: ownership.clone(),
        recorder: recorder.clone(),
        clock: Arc::clone(&clock),
        entropy: entropy.clone(),
        metrics: aesp_retention::Metrics::register(&registry)?,
        limits: config.audit.retention,
        archive,
    });
    let alerts = Alerts::start(
        &config.alerts,
        aesp_alerts::Wiring {
            store: store.clone(),
            recorder: recorder.clone(),
            ownership: ownership.clone(),
            clock: Arc::clone(&clock),
            entropy: entropy.clone(),
            secrets: sinks::secrets(&config.keys)?,
            metrics: aesp_alerts::Metrics::register(&registry)?,
            name: config.node.name.clone(),
            options: aesp_alerts::Options::default(),
            closing: closing.clone(),
        },
    )?;

    let context = Context {
        index: Index::new(store.clone(), searches.clone()),
        followers: Followers::new(searches.followers),
        store,
        views,
        authenticator,
        access,
        recorder: recorder.clone(),
        tokens: Arc::clone(&tokens),
        tenants,
        sessions,
        runtimes: runtimes.clone(),
        calls: calls.clone(),
        cluster: cluster.clone(),
        ownership,
        others: Others::default(),
        backups,
        sinks,
        witnessing,
        retention,
        alerts,
        door: Arc::new(Door::new(config, &registry, entropy.clone())?),
        duty: keys::Duty::new(config),
        entropy: entropy.clone(),
        clock: Arc::clone(&clock),
    };
    duties::start(&context, closing.clone());
    followers::start(&context, &registry, closing.clone()).await?;
    context.witnessing.start(closing.clone());
    context.retention.start(closing.clone());
    backup::start(&context, closing.clone());
    let watch = keys::Watch::start(context.store.clone(), key_metrics.clone(), closing.clone());
    context.duty.start(context.clone(), watch.clone(), key_metrics, closing.clone());
    let message_bytes = config.limits.message_bytes as usize;
    let counters = forward::Metrics::register(&registry)?;
    let forward = Forward::new(context.clone(), counters.clone(), message_bytes);
    let routes = services::routes(&context, message_bytes);
    let guard = Guard::new(&context, forward.clone());
    let tiles = tiles::router(context.clone(), guard.clone(), config.audit.public_platform_log);
    let guarded = routes.into_axum_router().layer(guard);

    let membership = match member {
        None => None,
        Some(member) => {
            let owner = Owner::new(context.clone(), guarded.clone(), counters);
            let outside = Outside {
                name: &config.node.name,
                registry: &registry,
                clock,
                entropy,
                witness,
                service: Arc::new(Router {
                    cluster: cluster.clone(),
                    owner,
                    runtimes: runtimes.clone(),
                    tenants: context.tenants.clone(),
                    others: context.others.clone(),
                }),
                others: context.others.clone(),
                closing: closing.clone(),
            };
            context.tenants.join(Arc::new(QuotaLinks(context.others.clone())));
            runtimes.join(
                cluster.own(),
                Arc::new(RuntimeLinks { others: context.others.clone(), cluster: cluster.clone() }),
            );
            Some(member.link(&cluster, outside).await?)
        }
    };
    cluster.serve(Arc::new(Duties(context.clone())), membership.as_ref().map(|member| member.links.clone()));
    takes_up(&cluster).await;

    let ready = components::probe(&context, watch, root.clone(), closing.clone());
    let log = recorder.clone();
    let top = root.clone();
    let host = Host {
        routes: guarded.into(),
        https: tiles,
        jwks: Arc::new(move || tokens.jwks()),
        ready,
        registry,
        peers: membership.as_ref().map(|member| member.at),
        lost: Box::pin(async move { lease.lost().await }),
        gave_up: Box::pin(async move { top.escalated().await.to_string() }),
        drain: Box::new(End {
            tenants: context.tenants.clone(),
            runtimes,
            calls,
            forward,
            cluster,
            membership,
            recorder,
            audit: Mutex::new(Some(audit)),
            root,
            closing,
        }),
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

/// Opens where old audit events lie, and are moved to.
fn audit_archive(config: &Config) -> anyhow::Result<Option<aesp_retention::Archive>> {
    let Some(section) = &config.audit.archive else { return Ok(None) };
    let files = (section.credentials_file.as_deref(), section.ca.as_deref());
    let target = backup::target(&section.target, files).map_err(aesp_proto::Error::from)?;
    let files =
        aesp_backup::Files::open(&target).map_err(backup::Error::from).map_err(aesp_proto::Error::from)?;
    Ok(Some(aesp_retention::Archive::new(files, section.after())))
}

async fn join(
    store: &Store,
    config: &Config,
    member: Option<&Member>,
    registry: &prometheus::Registry,
    clock: &Arc<dyn Clock>,
    entropy: &Entropy,
    witness: &Arc<Witness>,
) -> anyhow::Result<Cluster> {
    let mut options = aesp_cluster::Options::new(config.node.name.as_str());
    options.version = env!("CARGO_PKG_VERSION").to_owned();
    options.endpoint = member.map(Member::endpoint).unwrap_or_default();
    options.locality = config.node.locality();
    if let Some(section) = &config.cluster {
        options.lease = section.lease();
    }
    // Hand-overs end before the shutdown that waits for them.
    options.grace = options.grace.min(Duration::from_secs(config.limits.drain_seconds.into()));
    let brings = aesp_cluster::Context {
        store: store.clone(),
        clock: Arc::clone(clock),
        entropy: entropy.clone(),
        metrics: aesp_cluster::Metrics::register(registry)?,
        notices: Arc::<Witness>::clone(witness),
    };
    Cluster::join(brings, options).await.context("the cluster does not take this node")
}

/// Lets Runtimes expect word within the same lease that the node has.
fn runtime_options(config: &Config) -> aesp_runtime::Options {
    let mut options = aesp_runtime::Options::default();
    if let Some(section) = &config.cluster {
        options.lease = section.lease();
    }
    options
}

/// Waits until the node has what is its to take, so that the first request finds it ready. In a cluster it may take longer: then
/// the others answer.
async fn takes_up(cluster: &Cluster) {
    let until = Instant::now() + TAKES_UP;
    while let Err(why) = cluster.ready() {
        if Instant::now() >= until {
            tracing::warn!(why, "the node begins before it is ready");
            return;
        }
        tokio::time::sleep(TAKES_UP_LOOK).await;
    }
}

/// Prepares a new store and makes the platform's first administrator; returns the API key's text, which is shown once.
///
/// # Errors
/// When the store can't be created or has an administrator already.
pub async fn first_administrator(config: &Config) -> anyhow::Result<String> {
    let store = open_store(config, keys::create(&config.keys).await?).await?;
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

pub(crate) async fn open_store(config: &Config, key: Arc<dyn KeyProvider>) -> anyhow::Result<Store> {
    match config.store.engine() {
        Some(Engine::Lmdb(path)) => {
            let options = LmdbOptions {
                map_size_bytes: (config.store.map_size_gib as usize) << 30,
                ..LmdbOptions::default()
            };
            Ok(Store::lmdb(&path, options, key).await?)
        }
        Some(Engine::Fdb(path)) => Ok(Store::fdb(config.store.fdb.options(&path), key).await?),
        Some(Engine::Memory) => Ok(Store::memory(MemoryOptions::default(), key)),
        None => {
            anyhow::bail!("store.path names no engine: use lmdb:/path, fdb:/path/of/fdb.cluster or memory")
        }
    }
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
