//! Measures commits on FoundationDB through the store, and the same through the client crate alone, turn by turn:
//! `cargo run --release -p aesp-storage --example fdb_rate -- [cluster file] [library] [file for the figures, JSON]`. An empty
//! argument is one that is not there.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use aesp_proto::{Clock, Entropy, SystemClock, TenantId};
use aesp_storage::{Engine, Error, FdbEngine, FdbOptions, FileKeyProvider, Kind, Store, row_key};
use foundationdb::{
    Database, FdbBindingError,
    options::{MutationType, TransactionOption},
};
use futures::future::try_join_all;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

const TENANT: TenantId = TenantId::from_bytes([9; 16]);
const MEASURED: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
const BATCH: u16 = 200;
const EVENT: [u8; 500] = [7; 500];

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments =
        std::env::args_os().skip(1).map(|argument| (!argument.is_empty()).then_some(argument));
    let mut options = FdbOptions { prefix: prefix("store"), ..FdbOptions::default() };
    if let Some(file) = arguments.next().flatten() {
        options.cluster_file = file.into();
    }
    options.library = arguments.next().flatten().map(PathBuf::from);
    let figures = arguments.next().flatten().map(PathBuf::from);
    let cluster_file = options.cluster_file.clone();

    // The engine loads the library that the raw crate then uses, too.
    let engine = Arc::new(FdbEngine::open(options).await?);
    let folder = std::env::temp_dir().join(format!("fdb_rate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| Error::unavailable(error.to_string()))?;
    let provider = Arc::new(FileKeyProvider::create(&folder.join("master.key"))?);
    let store =
        Store::new(engine as Arc<dyn Engine>, provider, Arc::new(SystemClock), Entropy::from_system());
    store.initialise().await?;
    let raw = Raw::open(&cluster_file.to_string_lossy())?;

    let mut measured = Vec::new();
    for (what, tasks, kind) in [
        ("small transactions, 1 in flight", 1, Work::Small),
        ("small transactions, 64 in flight", 64, Work::Small),
        ("batches of 200 appends of 500 bytes, 16 in flight", 16, Work::Appends),
    ] {
        println!("{what}");
        let (mut bare, mut stored) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (store, raw) = (store.clone(), raw.clone());
            let times = measure(tasks, move |task, turn| raw.clone().work(kind, task, turn)).await?;
            bare.push(report("raw crate", kind, &times));
            let times = measure(tasks, move |task, turn| work(store.clone(), kind, task, turn)).await?;
            stored.push(report("store", kind, &times));
        }
        let (raw, store) = (median(bare), median(stored));
        let ratio = store.per_second / raw.per_second;
        println!("  store/raw crate {ratio:.2} (medians)");
        measured.push(json!({ "what": what, "store": store, "raw": raw, "ratio": ratio }));
    }
    if let Some(file) = figures {
        let text =
            serde_json::to_vec_pretty(&measured).map_err(|error| Error::unavailable(error.to_string()))?;
        std::fs::write(file, text).map_err(|error| Error::unavailable(error.to_string()))?;
    }
    store.run(|tx| Box::pin(async move { tx.clear_range_raw(&[0], &[u8::MAX; 501]) })).await?;
    raw.clear().await?;
    std::fs::remove_dir_all(&folder).map_err(|error| Error::unavailable(error.to_string()))
}

#[derive(Clone, Copy)]
enum Work {
    /// Reads a row of its own and writes it.
    Small,
    /// Appends under versionstamped keys.
    Appends,
}

fn prefix(name: &str) -> String {
    format!("rate-{name}-{:x}", SystemClock.now().0)
}

/// Runs `work` in so many tasks and returns how long each of its turns took.
async fn measure<F, W>(tasks: u64, work: F) -> Result<Vec<Duration>, Error>
where
    F: Fn(u64, u64) -> W + Clone + Send + 'static,
    W: Future<Output = Result<(), Error>> + Send,
{
    let started = Instant::now();
    let tasks = (0..tasks).map(|task| {
        let work = work.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < MEASURED {
                let began = Instant::now();
                work(task, times.len() as u64).await?;
                times.push(began.elapsed());
            }
            Ok::<_, Error>(times)
        })
    });
    let times = try_join_all(tasks).await.map_err(|error| Error::unavailable(error.to_string()))?;
    let mut all: Vec<Duration> = times.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    all.sort();
    Ok(all)
}

/// What one round showed.
#[derive(Clone, Copy, Serialize)]
struct Rate {
    per_second: f64,
    p50_us: u128,
    p99_us: u128,
}

/// Returns the round with the median rate.
fn median(mut rounds: Vec<Rate>) -> Rate {
    rounds.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
    rounds[rounds.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
fn report(who: &str, work: Work, times: &[Duration]) -> Rate {
    let rate = times.len() as f64 / MEASURED.as_secs_f64();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let (rate, unit) = match work {
        Work::Small => (rate, "transactions"),
        Work::Appends => (rate * f64::from(BATCH), "appends"),
    };
    println!("  {who:10} {rate:10.0} {unit}/s, p50 {:?}, p99 {:?}", at(50), at(99));
    Rate { per_second: rate, p50_us: at(50).as_micros(), p99_us: at(99).as_micros() }
}

async fn work(store: Store, kind: Work, task: u64, _turn: u64) -> Result<(), Error> {
    match kind {
        Work::Small => {
            let key = row_key(TENANT, Kind::SESSION, &task.to_be_bytes());
            store
                .run(|tx| {
                    let key = key.clone();
                    Box::pin(async move {
                        tx.get_raw(&key).await?;
                        tx.set_raw(&key, &[1; 200])
                    })
                })
                .await
        }
        Work::Appends => {
            let log = row_key(TENANT, Kind::AUDIT_EVENT, &task.to_be_bytes());
            store
                .run(|tx| {
                    let log = log.clone();
                    Box::pin(async move {
                        // As the audit log does: each transaction reads that it is still the writer.
                        tx.get_raw(&log).await?;
                        (0..BATCH).try_for_each(|n| tx.set_versionstamped_key(&log, &n.to_be_bytes(), &EVENT))
                    })
                })
                .await
        }
    }
}

/// The client crate by itself, with the request id that a store's transaction has, too.
#[derive(Clone)]
struct Raw {
    database: Arc<Database>,
    prefix: Arc<Vec<u8>>,
}

impl Raw {
    fn open(cluster_file: &str) -> Result<Self, Error> {
        let database =
            Database::from_path(cluster_file).map_err(|error| Error::unavailable(error.message()))?;
        Ok(Self { database: Arc::new(database), prefix: Arc::new(prefix("raw").into_bytes()) })
    }

    fn key(&self, parts: &[&[u8]]) -> Vec<u8> {
        [&[self.prefix.as_slice()], parts].concat().concat()
    }

    async fn work(self, kind: Work, task: u64, turn: u64) -> Result<(), Error> {
        let raw = &self;
        let done = self.database.run(|tx, _| async move {
            tx.set_option(TransactionOption::Timeout(5_000))?;
            let task = &task.to_be_bytes();
            let key = raw.key(&[b"row", task]);
            tx.get(&key, false).await?;
            match kind {
                Work::Small => tx.set(&key, &[1; 200]),
                Work::Appends => {
                    for n in 0..BATCH {
                        let mut key = raw.key(&[b"log", task]);
                        let place = u32::try_from(key.len()).unwrap_or_default();
                        key.extend([0; 10]);
                        key.extend(n.to_be_bytes());
                        key.extend(place.to_le_bytes());
                        tx.atomic_op(&key, &EVENT, MutationType::SetVersionstampedKey);
                    }
                }
            }
            tx.set(&raw.key(&[b"request", task, &turn.to_be_bytes()]), &[1]);
            Ok::<_, FdbBindingError>(())
        });
        done.await.map_err(|error| Error::unavailable(error.to_string()))
    }

    async fn clear(&self) -> Result<(), Error> {
        let (start, end) = (self.key(&[]), self.key(&[&[u8::MAX]]));
        let (start, end) = (&start, &end);
        let done = self.database.run(|tx, _| async move {
            tx.clear_range(start, end);
            Ok::<_, FdbBindingError>(())
        });
        done.await.map_err(|error| Error::unavailable(error.to_string()))
    }
}
