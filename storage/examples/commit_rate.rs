//! Measures durable commits on LMDB: `cargo run --release -p aesp-storage --example commit_rate -- [folder]`.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use aesp_proto::TenantId;
use aesp_storage::{Error, FileKeyProvider, Kind, LmdbOptions, Row, Store, row_key};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const TENANT: TenantId = TenantId::from_bytes([9; 16]);
const MEASURED: Duration = Duration::from_secs(4);

#[derive(Serialize, Deserialize)]
struct Session {
    state: String,
}

impl Row for Session {
    const KIND: Kind = Kind::SESSION;
    type Key = u64;
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let given = std::env::args().nth(1).map(PathBuf::from);
    let folder =
        given.unwrap_or_else(|| std::env::temp_dir().join(format!("commit_rate-{}", std::process::id())));
    std::fs::create_dir_all(&folder).map_err(|error| Error::unavailable(error.to_string()))?;
    let provider = Arc::new(FileKeyProvider::create(&folder.join("master.key"))?);
    let store = Store::lmdb(&folder.join("store"), LmdbOptions::default(), provider).await?;
    store.initialise().await?;
    store.run(|tx| Box::pin(async move { tx.create_tenant_keys(TENANT).await })).await?;
    for in_flight in [1, 64, 1024] {
        commits(&store, in_flight).await?;
    }
    appends(&store).await?;
    one_large_transaction(&store).await?;
    reads(&store).await
}

/// Small transactions, each on its own row, by so many tasks at once.
async fn commits(store: &Store, in_flight: u64) -> Result<(), Error> {
    let started = Instant::now();
    let tasks = (0..in_flight).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = 0_u64;
            while started.elapsed() < MEASURED {
                store
                    .run(move |tx| {
                        Box::pin(async move {
                            tx.get::<Session>(TENANT, &task).await?;
                            tx.put(TENANT, &task, &Session { state: "x".repeat(200) }).await
                        })
                    })
                    .await?;
                done += 1;
            }
            Ok::<_, Error>(done)
        })
    });
    let done = try_join_all(tasks).await.map_err(|error| Error::unavailable(error.to_string()))?;
    let done: u64 = done.into_iter().sum::<Result<_, _>>()?;
    println!("{in_flight:5} in flight: {:8.0} commits/s", per_second(done, started));
    Ok(())
}

/// Appends of 500 bytes in batches of 200, one batch after the other.
async fn appends(store: &Store) -> Result<(), Error> {
    let (started, mut batches) = (Instant::now(), 0);
    while started.elapsed() < MEASURED {
        store
            .run(|tx| {
                Box::pin(async move {
                    let log = row_key(TENANT, Kind::AUDIT_EVENT, &[]);
                    (0..200_u16)
                        .try_for_each(|n| tx.set_versionstamped_key(&log, &n.to_be_bytes(), &[7; 500]))
                })
            })
            .await?;
        batches += 1;
    }
    println!("batches of 200: {:8.0} appends/s", per_second(batches * 200, started));
    Ok(())
}

/// What a commit of a thousand units costs.
async fn one_large_transaction(store: &Store) -> Result<(), Error> {
    const ROWS: u64 = 1000;
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < MEASURED {
        store
            .run(move |tx| {
                Box::pin(async move {
                    for n in 0..ROWS {
                        let key = 1_000_000 + count * ROWS + n;
                        tx.put(TENANT, &key, &Session { state: "y".repeat(580) }).await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .await?;
        count += 1;
    }
    let each = started.elapsed() / u32::try_from(count).unwrap_or(u32::MAX);
    println!("one transaction of {ROWS} sealed puts of 600 bytes: {each:?} with its commit");
    Ok(())
}

async fn reads(store: &Store) -> Result<(), Error> {
    const READS: u64 = 50_000;
    let (started, mut read) = (Instant::now(), 0);
    for _ in 0..READS / 100 {
        let found = store.run(|tx| {
            Box::pin(async move {
                let mut found = 0;
                for n in 0..100_u64 {
                    found += u64::from(tx.get::<Session>(TENANT, &(1_000_000 + n)).await?.is_some());
                }
                Ok::<_, Error>(found)
            })
        });
        read += found.await?;
    }
    println!(
        "sealed gets of 600 bytes: {:?} each",
        started.elapsed() / u32::try_from(read).unwrap_or(u32::MAX)
    );
    let started = Instant::now();
    for _ in 0..READS {
        store.run(|tx| Box::pin(async move { tx.get::<Session>(TENANT, &1_000_000).await })).await?;
    }
    println!(
        "transactions of one sealed get: {:?} each",
        started.elapsed() / u32::try_from(READS).unwrap_or(1)
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
fn per_second(count: u64, started: Instant) -> f64 {
    count as f64 / started.elapsed().as_secs_f64()
}
