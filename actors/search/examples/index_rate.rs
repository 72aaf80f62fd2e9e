//! Measures how far behind the log the index is while the log grows at a steady rate, on LMDB:
//! `cargo run --release -p aesp-search --example index_rate [events a second] [seconds] [folder]`, by default 20,000 for 20 seconds.
#![expect(clippy::print_stdout, reason = "prints its measurement")]

mod made;

use std::{
    error::Error,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_audit::{Options, Recorder};
use aesp_proto::SystemClock;
use aesp_search::{Index, Metrics, Step};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::made::{Made, cpu_seconds};

const TICK: Duration = Duration::from_millis(10);
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let number =
        |index: usize, usual: u64| std::env::args().nth(index).map_or(Ok(usual), |text| text.parse::<u64>());
    let (rate, seconds) = (number(1, 20_000)?, number(2, 20)?);
    let base = std::env::args().nth(3).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(&base)?;
    let made = Arc::new(Made::new(folder.path()).await?);
    let clock = Arc::new(SystemClock);
    let (recorder, duty) =
        Recorder::start(made.store.clone(), clock, made.entropy.clone(), Options::default()).await?;
    let written = Arc::new(AtomicU64::new(0));
    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    let writer = tokio::spawn({
        let (made, written) = (Arc::clone(&made), Arc::clone(&written));
        async move {
            let mut ticks = interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let a_tick = rate / 100;
            for tick in 0..seconds * 100 {
                ticks.tick().await;
                let unit = (tick * a_tick..(tick + 1) * a_tick).map(|n| made.event(n)).collect();
                recorder.append(unit).await?;
                written.fetch_add(a_tick, Ordering::Relaxed);
            }
            Ok::<_, aesp_audit::Error>(())
        }
    });
    let index = Index::new(made.store.clone(), Metrics::unregistered()?);
    let mut behind = Vec::new();
    while !writer.is_finished() {
        while index.advance(made.tenant, made.fence).await? == Step::More {}
        behind
            .push(written.load(Ordering::Relaxed).saturating_sub(index.status(made.tenant).await?.0.events));
        sleep(PAUSE).await;
    }
    writer.await??;
    let elapsed = begun.elapsed().as_secs_f64();
    behind.sort_unstable();
    let events = written.load(Ordering::Relaxed);
    println!(
        "{:.0} events/s written and indexed; the index was {} events behind at most, {} in the median; {:.1} µs CPU an event (writing and indexing)",
        events as f64 / elapsed,
        behind.last().copied().unwrap_or_default(),
        behind.get(behind.len() / 2).copied().unwrap_or_default(),
        (cpu_seconds()? - cpu) * 1e6 / events as f64
    );
    duty.stop().await?;
    Ok(())
}
