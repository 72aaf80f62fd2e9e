//! Measures what the pipeline costs a call, from the caller's token to the durable record on LMDB, with the Runtime in memory
//! and no network: `cargo run --release -p aesp-call --example call_cost [in flight] [seconds]`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "prints its measurement and stops at the first surprise"
)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_storage::{FileKeyProvider, LmdbOptions, Store};
use tokio::time::Instant;

use self::harness::Pipeline;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 256 bytes of arguments.
const ARGS: &[u8] = br#"{"text":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234"}"#;

#[tokio::main]
async fn main() {
    let mut given = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let (in_flight, seconds) = (given.next().unwrap_or(1_024), given.next().unwrap_or(5));
    let folder = tempfile::tempdir().unwrap();
    let key = Arc::new(FileKeyProvider::create(&folder.path().join("master.key")).unwrap());
    let store = Store::lmdb(&folder.path().join("store"), LmdbOptions::default(), key).await.unwrap();
    let pipeline = Arc::new(Pipeline::start(store).await);
    let made = Arc::new(AtomicU64::new(0));
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let end = begun + Duration::from_secs(seconds);
    let callers = (0..in_flight).map(|_| {
        let (pipeline, made) = (pipeline.clone(), made.clone());
        tokio::spawn(async move {
            while Instant::now() < end {
                let number = made.fetch_add(1, Ordering::Relaxed);
                pipeline.call("read", format!("call-{number}"), ARGS).await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let (calls, took) = (made.load(Ordering::Relaxed) as f64, begun.elapsed().as_secs_f64());
    let each = (cpu_seconds() - cpu) * 1e6 / calls;
    println!("{in_flight} in flight: {:.0} calls/s, {each:.1} µs CPU a call (all threads)", calls / took);
}

/// User and system time of this process, in seconds, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
