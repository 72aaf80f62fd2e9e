use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aesp_backup::{
    ArchiveKey, ClusterId,
    logical::{self, Wrapping},
};
use aesp_proto::{
    Clock, Entropy, SystemClock, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::{Engine, FdbEngine, FileKeyProvider, KeyProvider, LmdbEngine};
use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::json;

use super::{config, context::Context, failure::Failure, progress};
use crate::{Config, backup::map_size};

/// For how long a snapshot of FoundationDB is read, which keeps it for 5 s.
const FDB_KEEPS: Duration = Duration::from_secs(3);
/// How long the rows of nodes are watched before a tenant is imported beside others: longer than any lease is renewed.
const PATIENCE: Duration = Duration::from_secs(3);

/// The store as a whole or one tenant of it, offline: which one and under which key, the node's configuration says.
#[derive(Subcommand, Debug)]
pub(crate) enum Store {
    /// Write everything, or the tenant that --tenant names, into one file that any engine can import. Values stay sealed.
    Export {
        /// The file; nothing may be there.
        #[arg(long = "file", short = 'f', value_name = "FILE")]
        file: PathBuf,
        /// The master key of the store that will import it, if it is another one.
        #[arg(long, value_name = "FILE")]
        for_key: Option<PathBuf>,
    },
    /// Write an export into an empty store, under the configured master key; lmdb or FoundationDB. That of one tenant, which
    /// --tenant names by its id, goes into the store of another cluster, whose nodes are stopped.
    Import {
        /// The file.
        #[arg(long = "file", short = 'f', value_name = "FILE")]
        file: PathBuf,
        /// Only check that the file is whole, unchanged and meant for the configured key.
        #[arg(long)]
        check: bool,
        /// The name that the tenant gets, if its own is taken there.
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
    },
}

impl Store {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let config = config::load(ctx, Vec::new())?;
        match self {
            Self::Export { file, for_key } => export(ctx, &config, &file, for_key.as_deref()).await,
            Self::Import { file, check: true, .. } => check(ctx, &config, &file).await,
            Self::Import { file, check: false, rename } => match &ctx.named_tenant {
                Some(named) => {
                    let tenant = named.parse::<TenantId>().map_err(|_| {
                        let next = "aesp store import --check shows which tenant an export holds";
                        Failure::usage("an export knows its tenant by its id only", next)
                    })?;
                    import_tenant(ctx, &config, &file, tenant, rename).await
                }
                None if rename.is_some() => {
                    let next = "name the tenant with --tenant";
                    Err(Failure::usage("--rename is for the export of one tenant", next))
                }
                None => import(ctx, &config, &file).await,
            },
        }
    }
}

/// Opens the engine, and tells for how long it keeps a snapshot.
async fn engine(config: &Config) -> Result<(Arc<dyn Engine>, Option<Duration>), Failure> {
    use crate::config::Engine as Configured;
    let failed = |error: aesp_storage::Error| Failure::from(anyhow::Error::from(error));
    match config.store.engine() {
        Some(Configured::Lmdb(path)) => {
            Ok((Arc::new(LmdbEngine::open(&path, map_size(config)).await.map_err(failed)?), None))
        }
        Some(Configured::Fdb(path)) => {
            let opened = FdbEngine::open(config.store.fdb.options(&path)).await.map_err(failed)?;
            Ok((Arc::new(opened), Some(FDB_KEEPS)))
        }
        _ => Err(Failure::usage("a store in memory has nothing to export", "name another in store.path")),
    }
}

fn store_on(engine: &Arc<dyn Engine>, key: &Arc<dyn KeyProvider>) -> aesp_storage::Store {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    aesp_storage::Store::new(Arc::clone(engine), Arc::clone(key), clock, Entropy::from_system())
}

async fn export(ctx: &Context, config: &Config, file: &Path, for_key: Option<&Path>) -> Result<(), Failure> {
    if file.exists() {
        return Err(Failure::usage(format!("{} is there already", file.display()), "name another --file"));
    }
    let there = |path: &Path| path.join("data.mdb").exists();
    if let Some(crate::config::Engine::Lmdb(path)) = config.store.engine()
        && !there(&path)
    {
        let next = "check store.path: aesp config show";
        return Err(Failure::local(format!("there is no store at {}", path.display()), next));
    }
    let key = crate::keys::open(&config.keys).await.map_err(anyhow::Error::from)?;
    let target = match for_key {
        Some(path) => {
            let provider = FileKeyProvider::open(path).map_err(anyhow::Error::from)?;
            let description = provider.describe();
            Some(ArchiveKey { provider: Arc::new(provider), description })
        }
        None => None,
    };
    let wrapping = Wrapping { source: Arc::clone(&key), target, source_description: key.describe() };
    let (engine, kept) = engine(config).await?;
    let store = store_on(&engine, &key);
    store.initialise().await.map_err(anyhow::Error::from)?;
    let cluster = store.run(|tx| Box::pin(aesp_cluster::stored_id(tx))).await.map_err(anyhow::Error::from)?;
    let tenant = match &ctx.named_tenant {
        Some(named) => Some(tenant_source(&store, named).await?),
        None => None,
    };
    let what = tenant.as_ref().map_or_else(|| "store".to_owned(), |of| format!("tenant:{}", of.header.id));
    record(&store, "store.export", &what, file).await?;
    let draft = file.with_extension("part");
    let mut out = BufWriter::new(File::create(&draft)?);
    let bar = progress::bytes("exported", None);
    let told = &mut |manifest: &logical::Manifest| bar.set_position(manifest.bytes);
    let cluster = ClusterId(cluster.unwrap_or_default());
    let source = logical::Source { engine: &engine, cluster, kept, tenant };
    let exported = logical::export(&source, &wrapping, &SystemClock, &mut out, told).await;
    bar.finish_and_clear();
    let exported = match exported {
        Ok(exported) => exported,
        Err(error) => {
            // Of use to nobody; that it can't be removed is not what went wrong.
            drop(fs::remove_file(&draft));
            return Err(error.into());
        }
    };
    out.flush()?;
    out.into_inner().map_err(|error| Failure::from(error.into_error()))?.sync_all()?;
    fs::rename(&draft, file)?;
    show(ctx, file, &exported, &json!({}))
}

/// Reads what the export of a tenant holds besides its rows.
async fn tenant_source(store: &aesp_storage::Store, named: &str) -> Result<logical::TenantSource, Failure> {
    let name = named.to_owned();
    let read = store.run(move |tx| {
        let name = name.clone();
        Box::pin(async move {
            let Some(id) = aesp_tenant::resolve(tx, &name).await? else {
                return Err(aesp_proto::Error::from(aesp_tenant::Error::NotFound));
            };
            let packed = aesp_tenant::pack(tx, id).await?;
            let keys = aesp_audit::batch_keys(tx).await?;
            let audit_keys = keys.iter().map(|key| BASE64.encode(&key.0)).collect();
            let sealed = aesp_audit::checkpoints::last(tx, id).await?;
            let checkpoint = sealed.map(|sealed| sealed.note);
            let header =
                logical::TenantHeader { id, log_epoch: tx.log_epoch().await?, audit_keys, checkpoint };
            Ok(logical::TenantSource { header, packed })
        })
    });
    Ok(read.await?)
}

/// Puts on record what somebody took out of the store, or brought into it.
async fn record(store: &aesp_storage::Store, action: &str, what: &str, file: &Path) -> Result<(), Failure> {
    let (clock, entropy): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Entropy::from_system());
    let options = aesp_audit::Options { writers: 1, ..aesp_audit::Options::default() };
    let kind = EventType::DataAccess;
    let mut event = aesp_audit::Event::new(&entropy, TenantId::PLATFORM, kind, action, Outcome::Success);
    event.details.resource = what.into();
    event.details.fields = vec![("file".into(), file.display().to_string())];
    let started = aesp_audit::Recorder::start(store.clone(), clock, entropy, options).await;
    let (recorder, duty) = started.map_err(aesp_proto::Error::from)?;
    recorder.append(vec![event]).await.map_err(aesp_proto::Error::from)?;
    drop(recorder);
    Ok(duty.stop().await.map_err(aesp_proto::Error::from)?)
}

fn open(file: &Path) -> Result<BufReader<File>, Failure> {
    let opened = File::open(file).map(BufReader::new);
    opened.map_err(|error| {
        Failure::usage(format!("can't read {}: {error}", file.display()), "name an export with --file")
    })
}

async fn check(ctx: &Context, config: &Config, file: &Path) -> Result<(), Failure> {
    let key = crate::keys::open(&config.keys).await.map_err(anyhow::Error::from)?;
    let exported = logical::check(&mut open(file)?, &*key).await?;
    show(ctx, file, &exported, &json!({ "checked": true }))
}

async fn import(ctx: &Context, config: &Config, file: &Path) -> Result<(), Failure> {
    let mut input = open(file)?;
    let key = crate::keys::open(&config.keys).await.map_err(anyhow::Error::from)?;
    let (engine, _) = engine(config).await?;
    let store = store_on(&engine, &key);
    let bar = progress::bytes("imported", None);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let told = &mut |rows| bar.set_position(rows);
    let imported = logical::import(&mut input, &store, &*key, clock, &Entropy::from_system(), told).await;
    bar.finish_and_clear();
    let (exported, reborn) = imported?;
    let more = json!({ "imported_into": config.store.path, "log_epoch": reborn.log_epoch });
    show(ctx, file, &exported, &more)?;
    ctx.console.note("\nEverybody logs in again. Next:  start the nodes on the imported store")
}

async fn import_tenant(
    ctx: &Context,
    config: &Config,
    file: &Path,
    tenant: TenantId,
    rename: Option<String>,
) -> Result<(), Failure> {
    let mut input = open(file)?;
    let key = crate::keys::open(&config.keys).await.map_err(anyhow::Error::from)?;
    let held = logical::check(&mut input, &*key).await?.header.tenant;
    if let Some(held) = held.filter(|held| held.id != tenant) {
        let next = format!("name it: --tenant {}", held.id);
        return Err(Failure::usage(format!("{} holds another tenant", file.display()), next));
    }
    let (engine, _) = engine(config).await?;
    let store = store_on(&engine, &key);
    store.initialise().await.map_err(anyhow::Error::from)?;
    let bar = progress::bytes("imported", None);
    let told = &mut |rows| bar.set_position(rows);
    let adopt: logical::Adopt<'_> = &|tx| {
        let rename = rename.clone();
        Box::pin(async move {
            aesp_tenant::unpack(tx, tenant, rename.as_deref()).await?;
            Ok(())
        })
    };
    let (clock, entropy): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Entropy::from_system());
    let at = (clock, &entropy);
    let imported = logical::import_tenant(&mut input, (&store, &*key), at, PATIENCE, adopt, told).await;
    bar.finish_and_clear();
    let (exported, arrived) = imported?;
    record(&store, "store.import", &format!("tenant:{tenant}"), file).await?;
    let more = json!({ "imported_into": config.store.path, "log_epoch": arrived.log_epoch });
    show(ctx, file, &exported, &more)?;
    ctx.console.note(
        "\nIts principals log in again. Next:  start the nodes; offer the platform's tools to it, bind its certificates and\n\
         register its Runtimes, which are the platform's. Delete it where it was, when it serves here",
    )
}

fn show(
    ctx: &Context,
    file: &Path,
    exported: &logical::Exported,
    more: &serde_json::Value,
) -> Result<(), Failure> {
    let mut value = json!({
        "file": file,
        "cluster_id": exported.header.cluster,
        "version": exported.header.version,
        "exported_at_ms": exported.header.exported_at.0,
        "key_provider": exported.header.key_provider,
        "rows": exported.manifest.rows,
        "bytes": exported.manifest.bytes,
        "tenants": exported.manifest.tenants,
        "tenant_id": exported.header.tenant.as_ref().map(|tenant| tenant.id.to_string()),
    });
    if let (Some(value), Some(more)) = (value.as_object_mut(), more.as_object()) {
        value.extend(more.clone());
    }
    ctx.console.value(&value)
}
