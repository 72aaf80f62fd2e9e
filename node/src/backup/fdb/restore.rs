use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use aesp_backup::{
    Point,
    rebirth::{self, Descent, Reborn, rebirth},
};
use aesp_proto::{Clock, Entropy, TenantId, Timestamp, chain};
use aesp_storage::{
    Commit, Engine, FdbEngine, KeyProvider, Kind, MAX_KEY_BYTES, Mutation, Range, Store, row_key,
};
use tokio::time::Instant;

use super::{
    super::{
        Drilled, Error,
        drill::{Found, Reached},
        logs::{self, Logs},
        restore::Step,
    },
    agents::Agents,
    place::{Container, FdbPlace, range, space},
    times::{self, Times},
};
use crate::{Config, config::Fdb};

/// As long as nobody waits for a restore.
const RESTORED_WITHIN: Duration = Duration::from_secs(7 * 86_400);
/// Agents that restore, where the section has none run.
const LEAST_AGENTS: u32 = 1;
/// Rows that are counted at once.
const COUNTED_AT_ONCE: usize = 5_000;

/// Where a store is restored to.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// Of the cluster, which is locked for everybody meanwhile.
    pub(crate) cluster_file: PathBuf,
    /// Nothing may be under it.
    pub(crate) prefix: String,
}

/// A store that a node may start on.
pub(crate) struct FdbOutcome {
    pub(crate) cluster: String,
    /// The backup that it was restored from.
    pub(crate) backup: String,
    pub(crate) version: u64,
    pub(crate) time: Timestamp,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) reborn: Reborn,
    pub(crate) logs: Logs,
}

/// A store at its destination.
struct Opened {
    engine: Arc<dyn Engine>,
    store: Store,
}

/// Has FoundationDB restore a store, gives it its new life and verifies its audit logs. Nodes are kept away until then.
///
/// # Errors
/// [`Error::PrefixInUse`], [`Error::NoBackup`], [`Error::Beyond`], those of FoundationDB's programs, or what is wrong with what
/// was restored, which then stays there for an investigation.
pub(crate) async fn restore(
    config: &Config,
    at: Point,
    to: &Destination,
    provider: Arc<dyn KeyProvider>,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    told: &mut (dyn FnMut(Step) + Send),
) -> Result<FdbOutcome, Error> {
    let place = FdbPlace::of(config)?;
    let fdb = &config.store.fdb;
    let opened = open(fdb, to, Arc::clone(&provider), &clock, entropy).await?;
    if !is_empty(&*opened.engine).await? {
        return Err(in_use(to));
    }
    let count = config.backup.as_ref().map_or(0, |section| section.fdb.agents).max(LEAST_AGENTS);
    let _agents = Agents::start(&place.tools, &to.cluster_file, count)?;
    let (container, version) = find(&place, fdb, at, to, (&provider, &clock, entropy)).await?;
    keep_away(&opened).await?;
    // The row that keeps nodes away is not the backup's but the one that stands there now.
    let life = rebirth::life_key();
    let (from, end) = space(&place.prefix);
    let (kept, behind) = ([from.as_slice(), &life].concat(), [from.as_slice(), &life, &[0]].concat());
    pour(&place, &container, version, &[(&from, &kept), (&behind, &end)], to).await?;

    let Opened { engine, store } = opened;
    store.initialise().await?;
    let cluster = store.run(|tx| Box::pin(aesp_cluster::stored_id(tx))).await?.unwrap_or_default();
    let time = times::load(&store).await?.time_of(version).unwrap_or(Timestamp(0));
    // Versions of another cluster mean nothing here.
    let (first, last) = times::keys();
    clear(&*engine, first, last).await?;
    let descent = Descent {
        cause: "restore",
        life: format!("{cluster}/{}/{version}", container.name),
        cluster: cluster.clone(),
        version,
        time,
    };
    let reborn = rebirth(&store, Arc::clone(&clock), entropy, &descent, Duration::ZERO).await?;
    let logs = logs::check(&store, &*clock, &mut |logs| told(Step::Verifying(logs))).await?;
    let (rows, bytes) = count_rows(&*engine).await?;
    Ok(FdbOutcome { cluster, backup: container.name, version, time, rows, bytes, reborn, logs })
}

/// Restores the end of the backup into the cluster that the section names for drills, checks it, and removes it.
pub(crate) async fn drill(
    config: &Config,
    provider: Arc<dyn KeyProvider>,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    told: &mut (dyn FnMut(Step) + Send),
) -> Drilled {
    let (at, started) = (clock.now(), Instant::now());
    let mut reached = Reached::default();
    let outcome = attempt(config, provider, clock, entropy, told).await.map(|outcome| {
        reached = Reached { end: Some(at.since(outcome.time)), version: outcome.version };
        Found { rows: outcome.rows, bytes: outcome.bytes, logs: outcome.logs }
    });
    Drilled::ended((at, started), reached, outcome)
}

async fn attempt(
    config: &Config,
    provider: Arc<dyn KeyProvider>,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    told: &mut (dyn FnMut(Step) + Send),
) -> Result<FdbOutcome, Error> {
    let section = config.backup.as_ref().ok_or(Error::Unconfigured)?;
    let cluster_file = section.fdb.drill_cluster.clone().ok_or(Error::NoDrillCluster)?;
    let to = Destination { cluster_file, prefix: DRILL_PREFIX.into() };
    let engine = engine(&config.store.fdb, &to).await?;
    // What a drill that was cut off has left.
    clear_all(&engine).await?;
    let restored = restore(config, Point::Latest, &to, provider, clock, entropy, told).await;
    let cleared = clear_all(&engine).await;
    let restored = restored?;
    cleared.map(|()| restored)
}

/// Under which drills restore. One at a time: the cluster is for nothing else.
const DRILL_PREFIX: &str = "aesp-drill";

async fn engine(fdb: &Fdb, to: &Destination) -> Result<FdbEngine, Error> {
    let options = Fdb { prefix: to.prefix.clone(), ..fdb.clone() }.options(&to.cluster_file);
    Ok(FdbEngine::open(options).await?)
}

async fn open(
    fdb: &Fdb,
    to: &Destination,
    provider: Arc<dyn KeyProvider>,
    clock: &Arc<dyn Clock>,
    entropy: &Entropy,
) -> Result<Opened, Error> {
    let engine: Arc<dyn Engine> = Arc::new(engine(fdb, to).await?);
    let store = Store::new(Arc::clone(&engine), provider, Arc::clone(clock), entropy.clone());
    Ok(Opened { engine, store })
}

fn in_use(to: &Destination) -> Error {
    Error::PrefixInUse { cluster_file: to.cluster_file.clone(), prefix: to.prefix.clone() }
}

fn everything() -> Range {
    Range::new(Vec::new(), vec![u8::MAX; MAX_KEY_BYTES + 1])
}

async fn is_empty(engine: &dyn Engine) -> Result<bool, Error> {
    Ok(engine.snapshot().await?.range(&everything().limit(1)).await?.is_empty())
}

/// Removes what lies between two keys, and leaves no name of a transaction as a store would.
async fn clear(engine: &dyn Engine, start: Vec<u8>, end: Vec<u8>) -> Result<(), Error> {
    let mutations = vec![Mutation::ClearRange { start, end }];
    engine.commit(Commit { mutations, ..Commit::default() }).await?;
    Ok(())
}

/// Keeps nodes away from what is not a whole store yet. Nothing else may be there when FoundationDB begins.
async fn keep_away(opened: &Opened) -> Result<(), Error> {
    opened.store.run(|tx| Box::pin(rebirth::keep_away(tx, "restore"))).await?;
    let requests = Range::prefix(&row_key(TenantId::PLATFORM, Kind::REQUEST, &[]));
    clear(&*opened.engine, requests.start, requests.end).await
}

async fn clear_all(engine: &dyn Engine) -> Result<(), Error> {
    let all = everything();
    clear(engine, all.start, all.end).await
}

/// Finds the backup and the version that a point means.
async fn find(
    place: &FdbPlace,
    fdb: &Fdb,
    at: Point,
    to: &Destination,
    opens: (&Arc<dyn KeyProvider>, &Arc<dyn Clock>, &Entropy),
) -> Result<(Container, u64), Error> {
    let mut held = Vec::new();
    for container in place.containers().await?.into_iter().rev() {
        if let Some(range) = place.describe(&container).await?.range() {
            held.push((container, range));
        }
    }
    let Some((newest, (_, last))) = held.first().cloned() else {
        return Err(Error::NoBackup(place.target.clone()));
    };
    let version = match at {
        Point::Latest => return Ok((newest, last)),
        Point::Version(version) => version.0,
        Point::Time(time) => {
            let times = match times_of_source(place, fdb, opens).await {
                Some(times) => times,
                None => times_of_backup(place, &newest, last, fdb, to).await?,
            };
            times.version_at(time).ok_or(Error::BeforeMarks(time))?
        }
    };
    // A moment after the end of the last backup may be that of a commit that is not in it.
    let found = held.iter().find(|(_, (first, last))| (*first..=*last).contains(&version)).cloned();
    let versions = || held.iter().rev().map(|(_, range)| *range).collect();
    let (container, _) = found.ok_or_else(|| Error::Beyond { version, held: versions() })?;
    Ok((container, version))
}

/// Asks the store that the backup is of when its versions were, if it is still there.
async fn times_of_source(
    place: &FdbPlace,
    fdb: &Fdb,
    (provider, clock, entropy): (&Arc<dyn KeyProvider>, &Arc<dyn Clock>, &Entropy),
) -> Option<Times> {
    let source = Destination { cluster_file: place.cluster_file.clone(), prefix: place.prefix.clone() };
    let opened = open(fdb, &source, Arc::clone(provider), clock, entropy).await;
    let times = match opened {
        Ok(opened) => times::load(&opened.store).await.ok()?,
        Err(error) => {
            tracing::info!(error = %chain(&error), "the store is away; its times are restored from the backup first");
            return None;
        }
    };
    (times != Times::default()).then_some(times)
}

/// Restores the part of a backup that says when its versions were, reads it and removes it.
async fn times_of_backup(
    place: &FdbPlace,
    container: &Container,
    version: u64,
    fdb: &Fdb,
    to: &Destination,
) -> Result<Times, Error> {
    let (from, _) = space(&place.prefix);
    let (first, last) = times::keys();
    let (first, last) = ([from.as_slice(), &first].concat(), [from.as_slice(), &last].concat());
    pour(place, container, version, &[(&first, &last)], to).await?;
    let engine = engine(fdb, to).await?;
    let times = times::load_raw(&engine).await;
    clear_all(&engine).await?;
    Ok(times?)
}

/// Has FoundationDB restore some ranges of keys to a version.
async fn pour(
    place: &FdbPlace,
    container: &Container,
    version: u64,
    ranges: &[(&[u8], &[u8])],
    to: &Destination,
) -> Result<(), Error> {
    let tag = format!("aesp-{}", to.prefix);
    let at = |verb: &str| -> Vec<OsString> {
        let cluster = to.cluster_file.clone().into_os_string();
        vec![verb.into(), "--dest-cluster-file".into(), cluster, "-t".into(), tag.clone().into()]
    };
    let mut start = at("start");
    start.extend(["-w", "-r", &container.url, "-v", &version.to_string()].map(OsString::from));
    for range in ranges {
        start.extend(["-k".into(), OsString::from(self::range(*range))]);
    }
    if to.prefix != place.prefix {
        // Without the zero behind them: so both ends of a range begin with it.
        let (old, new) = (place.prefix.as_bytes(), to.prefix.as_bytes());
        let (old, new) = (super::place::argument(old), super::place::argument(new));
        start.extend(["--remove-prefix", &old, "--add-prefix", &new].map(OsString::from));
    }
    let poured = place.tools.restore(start, RESTORED_WITHIN).await;
    if poured.is_err() {
        // So that the cluster does not stay locked; that it can't be aborted either is not what went wrong.
        drop(
            place
                .tools
                .restore::<&OsStr>(at("abort").iter().map(AsRef::as_ref), super::tools::LOOKED_WITHIN)
                .await,
        );
    }
    poured.map(drop)
}

/// Counts rows and their bytes.
async fn count_rows(engine: &dyn Engine) -> Result<(u64, u64), Error> {
    let (mut rows, mut bytes, mut range) = (0, 0, everything());
    loop {
        let page = engine.snapshot().await?.range(&range.clone().limit(COUNTED_AT_ONCE)).await?;
        rows += page.len() as u64;
        bytes += page.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        let Some((last, _)) = page.last().filter(|_| page.len() == COUNTED_AT_ONCE) else {
            return Ok((rows, bytes));
        };
        range.start = [last, &[0][..]].concat();
    }
}
