//! Measures how many events a second the writer appends durably on LMDB:
//! `cargo run --release -p aesp-audit --example append_rate [folder]`.
#![expect(clippy::print_stdout, reason = "prints its measurement")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use aesp_audit::{Details, Event, Options, Recorder};
use aesp_proto::{
    Entropy, SystemClock, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::{FileKeyProvider, LmdbOptions, Store};
use tokio::time::Instant;

/// Events of one unit, as a call has them.
const UNIT_EVENTS: usize = 2;
const CALLERS: usize = 8_192;
const TIME: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    // As it is by default, and with larger commits, which many tenants at full load share better.
    for (tenants, batch_units, batch_bytes) in
        [(1, 1_024, 800_000), (1_000, 1_024, 800_000), (1_000, 4_096, 3_000_000)]
    {
        let folder = tempfile::tempdir_in(&base)?;
        let provider = Arc::new(FileKeyProvider::create(&folder.path().join("master.key"))?);
        let store = Store::lmdb(&folder.path().join("store"), LmdbOptions::default(), provider).await?;
        store.initialise().await?;
        let entropy = Entropy::from_system();
        let mut ids = Vec::new();
        for _ in 0..tenants {
            let tenant = TenantId::random(&entropy);
            store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await })).await?;
            ids.push(tenant);
        }
        let options = Options { batch_units, batch_bytes, ..Options::default() };
        let (recorder, duty) =
            Recorder::start(store, Arc::new(SystemClock), entropy.clone(), options).await?;
        let (start, cpu) = (Instant::now(), cpu_seconds()?);
        let callers = (0..CALLERS).map(|caller| {
            let (recorder, entropy, tenant) = (recorder.clone(), entropy.clone(), ids[caller % tenants]);
            tokio::spawn(async move {
                let mut events = 0;
                while start.elapsed() < TIME {
                    let unit = (0..UNIT_EVENTS).map(|_| event(&entropy, tenant)).collect();
                    recorder.append(unit).await?;
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
        let each = (cpu_seconds()? - cpu) * 1e6 / events as f64;
        duty.stop().await?;
        println!(
            "{tenants:>5} tenants, commits of {batch_units} units: {:>8.0} events/s durable, {each:.1} µs CPU an event (all threads)",
            events as f64 / seconds
        );
    }
    Ok(())
}

fn event(entropy: &Entropy, tenant: TenantId) -> Event {
    let mut event = Event::new(entropy, tenant, EventType::ToolInvocation, "tool.invoke", Outcome::Success);
    event.details = Details {
        resource: "git_log@1.0.0".to_owned(),
        source_ip: "192.0.2.17".to_owned(),
        correlation_id: "0123456789abcdef".to_owned(),
        ..Details::default()
    };
    event
}

/// User and system time of this process, in seconds, in ticks of 10 ms.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
