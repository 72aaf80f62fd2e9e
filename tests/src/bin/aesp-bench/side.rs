use std::time::Duration;

use aesp_sdk::Session;
use aesp_tests::procfs;
use anyhow::ensure;
use serde::Serialize;
use serde_json::json;

use crate::load;

/// How many calls are under way at once in the comparison.
pub(crate) const IN_FLIGHT: [usize; 3] = [1, 64, 1_024];

/// One side of the comparison: sessions to call in, and the process whose time is counted.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) sessions: Vec<Session>,
    pub(crate) pid: u32,
}

/// What one side did with so many calls in flight.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) side: &'static str,
    pub(crate) in_flight: usize,
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) calls_per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p95_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) host_cpu_us_per_call: f64,
}

/// Measures one side, after a short warm-up.
pub(crate) async fn measure(side: Side, length: Duration) -> anyhow::Result<Vec<Row>> {
    // With its name and quotes, 256 bytes of arguments.
    let args = json!({ "text": "x".repeat(245) });
    load::run(&side.sessions, "echo", &args, 64, length / 5).await?;
    let mut rows = Vec::new();
    for in_flight in IN_FLIGHT {
        let before = procfs::cpu_us(side.pid)?;
        let seen = load::run(&side.sessions, "echo", &args, in_flight, length).await?;
        let used = procfs::cpu_us(side.pid)? - before;
        let calls = seen.latencies.len();
        ensure!(calls > 0, "{}: no call succeeded: {:?}", side.name, seen.why);
        let quantile = |q: f64| seen.latencies.value_at_quantile(q);
        let row = Row {
            side: side.name,
            in_flight,
            calls,
            failed: seen.failed,
            calls_per_second: calls as f64 / seen.took.as_secs_f64(),
            p50_us: quantile(0.5),
            p95_us: quantile(0.95),
            p99_us: quantile(0.99),
            host_cpu_us_per_call: used as f64 / calls as f64,
        };
        if let Some(why) = seen.why {
            crate::report::say(&format!("  {} calls failed, one with {why}", seen.failed));
        }
        crate::report::say(&format!("  {in_flight:>5} in flight: {:.0} calls/s", row.calls_per_second));
        rows.push(row);
    }
    Ok(rows)
}
