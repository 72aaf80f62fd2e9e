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
use serde_json::json;

use super::{config, context::Context, failure::Failure, progress};
use crate::{Config, backup::map_size};

/// For how long a snapshot of FoundationDB is read, which keeps it for 5 s.
const FDB_KEEPS: Duration = Duration::from_secs(3);

/// The store as a whole, offline: which one and under which key, the node's configuration says.
#[derive(Subcommand, Debug)]
pub(crate) enum Store {
    /// Write everything into one file that any engine can import. Values stay sealed.
    Export {
        /// The file; nothing may be there.
        #[arg(long = "file", short = 'f', value_name = "FILE")]
        file: PathBuf,
        /// The master key of the store that will import it, if it is another one.
        #[arg(long, value_name = "FILE")]
        for_key: Option<PathBuf>,
    },
    /// Write an export into an empty store, under the configured master key; lmdb or FoundationDB.
    Import {
        /// The file.
        #[arg(long = "file", short = 'f', value_name = "FILE")]
        file: PathBuf,
        /// Only check that the file is whole, unchanged and meant for the configured key.
        #[arg(long)]
        check: bool,
    },
}

impl Store {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        if ctx.named_tenant.is_some() {
            let next = "leave --tenant out; aesp restore takes one tenant out of a backup";
            return Err(Failure::usage("a store is exported and imported as a whole", next));
        }
        let config = config::load(ctx, Vec::new())?;
        match self {
            Self::Export { file, for_key } => export(ctx, &config, &file, for_key.as_deref()).await,
            Self::Import { file, check } => import(ctx, &config, &file, check).await,
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
    record(&store, file).await?;
    let draft = file.with_extension("part");
    let mut out = BufWriter::new(File::create(&draft)?);
    let bar = progress::bytes("exported", None);
    let told = &mut |manifest: &logical::Manifest| bar.set_position(manifest.bytes);
    let cluster = ClusterId(cluster.unwrap_or_default());
    let exported = logical::export(&engine, &cluster, &wrapping, kept, &SystemClock, &mut out, told).await;
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

/// Puts on record that somebody took a copy of everything.
async fn record(store: &aesp_storage::Store, file: &Path) -> Result<(), Failure> {
    let (clock, entropy): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Entropy::from_system());
    let options = aesp_audit::Options { writers: 1, ..aesp_audit::Options::default() };
    let kind = EventType::DataAccess;
    let mut event =
        aesp_audit::Event::new(&entropy, TenantId::PLATFORM, kind, "store.export", Outcome::Success);
    event.details.resource = "store".into();
    event.details.fields = vec![("file".into(), file.display().to_string())];
    let started = aesp_audit::Recorder::start(store.clone(), clock, entropy, options).await;
    let (recorder, duty) = started.map_err(aesp_proto::Error::from)?;
    recorder.append(vec![event]).await.map_err(aesp_proto::Error::from)?;
    drop(recorder);
    Ok(duty.stop().await.map_err(aesp_proto::Error::from)?)
}

async fn import(ctx: &Context, config: &Config, file: &Path, check: bool) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("can't read {}: {error}", file.display()), "name an export with --file")
    };
    let mut input = BufReader::new(File::open(file).map_err(unreadable)?);
    let key = crate::keys::open(&config.keys).await.map_err(anyhow::Error::from)?;
    if check {
        let exported = logical::check(&mut input, &*key).await?;
        return show(ctx, file, &exported, &json!({ "checked": true }));
    }
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
    });
    if let (Some(value), Some(more)) = (value.as_object_mut(), more.as_object()) {
        value.extend(more.clone());
    }
    ctx.console.value(&value)
}
