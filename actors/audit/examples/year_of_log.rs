//! Measures whether a long log slows today's writes: the durable append rate on an empty LMDB store, and on one with the keys of so
//! many events of before, as a year leaves them:
//! `EVENTS=100000000 cargo run --release -p aesp-audit --example year_of_log [folder]`. `VALUE_BYTES` (64) says how long their values are.
#![expect(clippy::print_stdout, reason = "prints its measurement")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use aesp_audit::{Details, Event, Options, Recorder};
use aesp_proto::{
    Entropy, PrincipalId, SystemClock, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::{FileKeyProvider, Kind, LmdbOptions, Store, row_key};
use tokio::time::Instant;

/// Events of one unit, as a call has them.
const UNIT_EVENTS: usize = 2;
const CALLERS: usize = 8_192;
/// Accounts that the events are about, each with a key.
const ACCOUNTS: usize = 1_000;
const TIME: Duration = Duration::from_secs(10);
/// Keys of one transaction.
const KEYS: u64 = 20_000;
const MAP_BYTES: usize = 128 << 30;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let number = |name: &str, usual: u64| std::env::var(name).map_or(Ok(usual), |text| text.parse::<u64>());
    let (events, bytes) = (number("EVENTS", 1_000_000)?, number("VALUE_BYTES", 64)?);
    let mut rates = Vec::new();
    for before in [0, events] {
        let folder = tempfile::tempdir_in(&base)?;
        let provider = Arc::new(FileKeyProvider::create(&folder.path().join("master.key"))?);
        let options = LmdbOptions { map_size_bytes: MAP_BYTES, ..LmdbOptions::default() };
        let store = Store::lmdb(&folder.path().join("store"), options, provider).await?;
        store.initialise().await?;
        let entropy = Entropy::from_system();
        let tenant = TenantId::random(&entropy);
        store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await })).await?;
        let began = Instant::now();
        fill(&store, tenant, before, usize::try_from(bytes)?).await?;
        let filled = began.elapsed().as_secs_f64();
        let rate = append(store, &entropy, tenant).await?;
        println!(
            "{before:>11} events of before ({filled:.0} s to write their keys): {rate:>8.0} events/s durable"
        );
        rates.push(rate);
    }
    println!("with the log of before: {:.2} of the rate without", rates[1] / rates[0]);
    Ok(())
}

/// Writes the keys of events of before: below those of any commit, in their order.
async fn fill(store: &Store, tenant: TenantId, events: u64, bytes: usize) -> Result<(), aesp_storage::Error> {
    let mut next = 0;
    while next < events {
        let until = (next + KEYS).min(events);
        store
            .run(move |tx| {
                Box::pin(async move {
                    let value = vec![0x5A; bytes];
                    for number in next..until {
                        // Log epoch 0, stamps of before, sixteen events a commit.
                        let place =
                            [&[0; 6][..], &(number / 16).to_be_bytes(), &(number as u16 % 16).to_be_bytes()];
                        tx.set_raw(&row_key(tenant, Kind::AUDIT_EVENT, &place.concat()), &value)?;
                    }
                    Ok::<_, aesp_storage::Error>(())
                })
            })
            .await?;
        next = until;
    }
    Ok(())
}

async fn append(
    store: Store,
    entropy: &Entropy,
    tenant: TenantId,
) -> Result<f64, Box<dyn std::error::Error>> {
    let accounts: Vec<PrincipalId> = (0..ACCOUNTS).map(|_| PrincipalId::random(entropy)).collect();
    let (recorder, duty) =
        Recorder::start(store, Arc::new(SystemClock), entropy.clone(), Options::default()).await?;
    // The keys of the accounts are there before it is measured, as on any day but the first.
    for some in accounts.chunks(100) {
        recorder.append(some.iter().map(|about| event(entropy, tenant, *about)).collect()).await?;
    }
    let start = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let (recorder, entropy, about) = (recorder.clone(), entropy.clone(), accounts[caller % ACCOUNTS]);
        tokio::spawn(async move {
            let mut events = 0;
            while start.elapsed() < TIME {
                recorder.append((0..UNIT_EVENTS).map(|_| event(&entropy, tenant, about)).collect()).await?;
                events += UNIT_EVENTS;
            }
            Ok::<_, aesp_audit::Error>(events)
        })
    });
    let mut events = 0;
    for caller in callers.collect::<Vec<_>>() {
        events += caller.await??;
    }
    let seconds = start.elapsed().as_secs_f64();
    duty.stop().await?;
    Ok(events as f64 / seconds)
}

fn event(entropy: &Entropy, tenant: TenantId, about: PrincipalId) -> Event {
    let mut event = Event::new(entropy, tenant, EventType::ToolInvocation, "tool.invoke", Outcome::Success);
    event.principal = Some(about);
    event.details = Details {
        resource: "tool:git_log@1.0.0".to_owned(),
        source_ip: "192.0.2.17".to_owned(),
        correlation_id: "0123456789abcdef".to_owned(),
        ..Details::default()
    };
    event
}
