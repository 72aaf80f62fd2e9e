//! Measures what the journal costs: durable commits on LMDB with and without it, taking turns, so that both meet the same disk:
//! `cargo run --release -p aesp-storage --example journal_rate -- [folder]`.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::{path::PathBuf, time::Duration};

use aesp_proto::TenantId;
use aesp_storage::{Commit, Engine, Error, Kind, LmdbEngine, LmdbOptions, Mutation, row_key};
use futures::future::try_join_all;
use tokio::time::Instant;

const TENANT: TenantId = TenantId::from_bytes([9; 16]);
const MEASURED: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 4;
const LIMIT_BYTES: u64 = 8 << 30;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let given = std::env::args().nth(1).map(PathBuf::from);
    let folder =
        given.unwrap_or_else(|| std::env::temp_dir().join(format!("journal_rate-{}", std::process::id())));
    let engine = LmdbEngine::open(&folder, LmdbOptions::default()).await?;
    for (what, appends, in_flight) in [
        ("appends in batches of 200, one in flight", 200, 1),
        ("appends in batches of 200, eight in flight", 200, 8),
        ("single appends, 1024 in flight", 1, 1024),
    ] {
        let (mut without, mut with) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            without += measure(&engine, appends, in_flight).await?;
            engine.journal().start(LIMIT_BYTES).await?;
            with += measure(&engine, appends, in_flight).await?;
            engine.journal().stop().await?;
        }
        let (without, with) = (without / f64::from(ROUNDS), with / f64::from(ROUNDS));
        let cost = (1.0 - with / without) * 100.0;
        println!("{what}: {without:.0} appends/s without a journal, {with:.0} with one ({cost:.1} % less)");
    }
    std::fs::remove_dir_all(&folder).map_err(|error| Error::unavailable(error.to_string()))
}

/// Returns appends of 500 bytes a second. With a journal, what is in it is trimmed twice a second, as if it were shipped.
async fn measure(engine: &LmdbEngine, appends: u16, in_flight: usize) -> Result<f64, Error> {
    let started = Instant::now();
    let writers = (0..in_flight).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut done = 0_u64;
            while started.elapsed() < MEASURED {
                let append = |n: u16| Mutation::StampedKey {
                    prefix: row_key(TENANT, Kind::AUDIT_EVENT, &[]),
                    suffix: n.to_be_bytes().to_vec(),
                    value: vec![7; 500].into(),
                };
                let mutations = (0..appends).map(append).collect();
                engine.commit(Commit { mutations, ..Commit::default() }).await?;
                done += u64::from(appends);
            }
            Ok::<_, Error>(done)
        })
    });
    let trimming = {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut after = 0;
            while started.elapsed() < MEASURED {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let journal = engine.journal();
                if journal.state().await?.is_some_and(|state| state.stopped.is_none()) {
                    loop {
                        let part = journal.read(after, 8 << 20).await?;
                        if part.records.is_empty() {
                            break;
                        }
                        after = part.up_to;
                    }
                    journal.trim(after).await?;
                }
            }
            Ok::<_, Error>(())
        })
    };
    let done = try_join_all(writers).await.map_err(|error| Error::unavailable(error.to_string()))?;
    let done: u64 = done.into_iter().sum::<Result<_, _>>()?;
    let seconds = started.elapsed().as_secs_f64();
    trimming.await.map_err(|error| Error::unavailable(error.to_string()))??;
    #[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
    Ok(done as f64 / seconds)
}
