use std::time::Duration;

use aesp_sdk::Session;
use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};

/// What a measurement saw.
pub(crate) struct Seen {
    /// Microseconds of each call that succeeded.
    pub(crate) latencies: Histogram<u64>,
    /// Calls that did not.
    pub(crate) failed: u64,
    /// Why one did not.
    pub(crate) why: Option<String>,
    /// How long it took altogether.
    pub(crate) took: Duration,
}

/// Keeps `in_flight` calls under way over these sessions until `length` has passed, and waits for the last of them.
pub(crate) async fn run(
    sessions: &[Session],
    tool: &'static str,
    args: &Value,
    in_flight: usize,
    length: Duration,
) -> anyhow::Result<Seen> {
    run_spread(sessions, tool, args, in_flight, length, Duration::ZERO).await
}

/// Does as [`run`], with the first calls spread evenly over `spread`: callers of a slow tool that all began at once would
/// come back at once as well, for ever.
pub(crate) async fn run_spread(
    sessions: &[Session],
    tool: &'static str,
    args: &Value,
    in_flight: usize,
    length: Duration,
    spread: Duration,
) -> anyhow::Result<Seen> {
    let begun = Instant::now();
    let end = begun + length;
    let mut callers = JoinSet::new();
    for n in 0..in_flight {
        let (session, args) = (sessions[n % sessions.len()].clone(), args.clone());
        let first = begun + spread.mul_f64(n as f64 / in_flight as f64);
        callers.spawn(async move {
            tokio::time::sleep_until(first).await;
            let mut seen = Vec::new();
            let (mut failed, mut why) = (0_u64, None);
            while Instant::now() < end {
                let sent = Instant::now();
                match session.call(tool, args.clone()).await.and_then(aesp_sdk::CallResult::into_content) {
                    Ok(_) => seen.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX)),
                    Err(error) => {
                        failed += 1;
                        why = Some(format!("{}: {error}", error.code().as_str_name()));
                    }
                }
            }
            (seen, failed, why)
        });
    }
    // A fixed range: up to ten minutes.
    let latencies = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    let mut all = Seen { latencies, failed: 0, why: None, took: Duration::ZERO };
    while let Some(caller) = callers.join_next().await {
        let (seen, failed, why) = caller.context("a caller broke")?;
        for latency in seen {
            all.latencies.saturating_record(latency);
        }
        all.failed += failed;
        all.why = why.or(all.why);
    }
    all.took = begun.elapsed();
    Ok(all)
}
