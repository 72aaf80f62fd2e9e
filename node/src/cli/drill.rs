use std::{path::PathBuf, sync::Arc};

use aesp_proto::{Clock, Entropy, SystemClock};
use aesp_storage::KeyProvider;
use clap::Args;
use serde_json::json;

use super::{config, context::Context, failure::Failure, progress};
use crate::{
    Config,
    backup::{Drilled, Place, drill, drill_fdb, map_size},
    config::Engine,
    wiring,
};

/// Restore the latest backup into a scratch folder or cluster, check everything, and record how long it took and what would be
/// lost.
#[derive(Args, Debug)]
pub(crate) struct Drill {
    /// Where to restore to, instead of backup.scratch_dir or, for FoundationDB, backup.fdb.drill_cluster; what is restored is
    /// removed afterwards.
    #[arg(long, value_name = "PATH")]
    scratch: Option<PathBuf>,
    /// Don't record it: for a machine that has the archive and the keys, but not the store.
    #[arg(long)]
    no_record: bool,
}

impl Drill {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut config = config::load(ctx, Vec::new())?;
        let key = crate::keys::open(&config.keys).await.map_err(anyhow::Error::from)?;
        let fdb = matches!(config.store.engine(), Some(Engine::Fdb(_)));
        let place = if fdb { None } else { Some(Place::of(&config, Arc::clone(&key))?) };
        let store = if self.no_record { None } else { Some(recorded_in(&config, Arc::clone(&key)).await?) };
        let mut section = config.backup.clone().unwrap_or_default();
        let mut bar = progress::Steps::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy = Entropy::from_system();
        let told = &mut |step| bar.show(step);
        let drilled = match place {
            Some(place) => {
                let scratch = self.scratch.unwrap_or(section.scratch_dir);
                drill(&place, &scratch, map_size(&config), Arc::clone(&clock), &entropy, told).await
            }
            None => {
                section.fdb.drill_cluster = self.scratch.or(section.fdb.drill_cluster);
                config.backup = config.backup.map(|_| section);
                drill_fdb(&config, key, Arc::clone(&clock), &entropy, told).await
            }
        };
        bar.finish();
        if let Some(store) = store {
            record(&drilled, store, clock, &entropy).await?;
        }
        show(ctx, drilled, !self.no_record)
    }
}

/// Opens the store that nodes may be serving on.
async fn recorded_in(config: &Config, key: Arc<dyn KeyProvider>) -> Result<aesp_storage::Store, Failure> {
    let there = match config.store.engine() {
        Some(Engine::Lmdb(path)) => path.join("data.mdb").exists(),
        // Whether the cluster is there, opening it tells.
        Some(Engine::Fdb(_)) => true,
        _ => false,
    };
    if !there {
        let next = "run it where the store is, or give --no-record";
        return Err(Failure::local(
            format!("there is no store at {} to record the drill in", config.store.path),
            next,
        ));
    }
    let store = wiring::open_store(config, key).await?;
    store.initialise().await.map_err(anyhow::Error::from)?;
    Ok(store)
}

async fn record(
    drilled: &Drilled,
    store: aesp_storage::Store,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
) -> Result<(), Failure> {
    let options = aesp_audit::Options { writers: 1, ..aesp_audit::Options::default() };
    let started = aesp_audit::Recorder::start(store, clock, entropy.clone(), options).await;
    let (recorder, duty) = started.map_err(aesp_proto::Error::from)?;
    drilled.record(&recorder, entropy).await?;
    drop(recorder);
    Ok(duty.stop().await.map_err(aesp_proto::Error::from)?)
}

fn show(ctx: &Context, drilled: Drilled, recorded: bool) -> Result<(), Failure> {
    if let Some(error) = drilled.error {
        return Err(error.into());
    }
    let found = drilled.found.ok_or_else(|| Failure::local("the drill found nothing", "report this"))?;
    ctx.console.value(&json!({
        "passed": true,
        "at_ms": drilled.row.at.0,
        "version": drilled.row.version,
        "rpo_ms": drilled.row.rpo_ms,
        "rto_ms": drilled.row.rto_ms,
        "rows": found.rows,
        "bytes": found.bytes,
        "tenants": found.logs.tenants,
        "events_verified": found.logs.events,
        "recorded": recorded,
    }))
}
