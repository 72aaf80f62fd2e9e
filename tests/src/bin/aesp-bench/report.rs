use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use crate::{
    cluster::Cluster,
    many::{ManyCalls, ManyRuntimes, ManySessions},
    side::{IN_FLIGHT, Row},
};

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    comparison: Vec<Row>,
    /// One a round and number of calls in flight.
    ratios: Vec<Ratio>,
    many_calls: Vec<ManyCalls>,
    many_runtimes: Option<ManyRuntimes>,
    many_sessions: Option<ManySessions>,
    cluster: Option<Cluster>,
}

/// What governing costs, as a multiple of the bare relay.
#[derive(Debug, Serialize)]
struct Ratio {
    in_flight: usize,
    throughput: f64,
    p50: f64,
    p99: f64,
    host_cpu: f64,
}

/// Shows a line to people. With nobody looking, the figures are written all the same.
pub(crate) fn say(line: &str) {
    drop(writeln!(io::stdout().lock(), "{line}"));
}

impl Report {
    pub(crate) fn compare(&mut self, relay: Vec<Row>, governed: Vec<Row>) {
        for (bare, full) in relay.into_iter().zip(governed) {
            self.ratios.push(Ratio {
                in_flight: bare.in_flight,
                throughput: full.calls_per_second / bare.calls_per_second,
                p50: full.p50_us as f64 / bare.p50_us as f64,
                p99: full.p99_us as f64 / bare.p99_us as f64,
                host_cpu: full.host_cpu_us_per_call / bare.host_cpu_us_per_call.max(0.001),
            });
            self.comparison.extend([bare, full]);
        }
    }

    pub(crate) fn many_calls(&mut self, seen: ManyCalls) {
        self.many_calls.push(seen);
    }

    pub(crate) fn many_runtimes(&mut self, seen: ManyRuntimes) {
        self.many_runtimes = Some(seen);
    }

    pub(crate) fn many_sessions(&mut self, seen: ManySessions) {
        self.many_sessions = Some(seen);
    }

    pub(crate) fn cluster(&mut self, seen: Cluster) {
        self.cluster = Some(seen);
    }

    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("bench.json"), serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }

    pub(crate) fn show(&self, folder: &Path) {
        say("\nin flight  side       calls/s    p50 ms    p95 ms    p99 ms  host CPU µs/call  failed");
        for row in &self.comparison {
            let ms = |us: u64| us as f64 / 1e3;
            say(&format!(
                "{:>9}  {:8} {:>9.0} {:>9.2} {:>9.2} {:>9.2} {:>17.0} {:>7}",
                row.in_flight,
                row.side,
                row.calls_per_second,
                ms(row.p50_us),
                ms(row.p95_us),
                ms(row.p99_us),
                row.host_cpu_us_per_call,
                row.failed,
            ));
        }
        say(
            "\nin flight  governed/relay, median (least–most): calls/s          p50                p99           host CPU",
        );
        for in_flight in IN_FLIGHT {
            let of = |value: fn(&Ratio) -> f64| {
                let rounds = self.ratios.iter().filter(|ratio| ratio.in_flight == in_flight).map(value);
                spread(rounds.collect())
            };
            say(&format!(
                "{in_flight:>9}  {:>39} {:>18} {:>18} {:>18}",
                of(|ratio| ratio.throughput),
                of(|ratio| ratio.p50),
                of(|ratio| ratio.p99),
                of(|ratio| ratio.host_cpu)
            ));
        }
        for seen in &self.many_calls {
            say(&format!(
                "\n{} calls in flight on a tool that takes {} s: {} calls, {} failed; added p50 {:.1} ms, p95 {:.1} ms, \
                 p99 {:.1} ms",
                seen.in_flight,
                seen.tool_seconds,
                seen.calls,
                seen.failed,
                seen.added_p50_ms,
                seen.added_p95_ms,
                seen.added_p99_ms
            ));
        }
        if let Some(seen) = &self.many_runtimes {
            say(&format!(
                "{} Runtime connections: made in {:.1} s, {:.0} KiB of the Host's memory each",
                seen.connections, seen.seconds_to_connect, seen.host_kib_per_connection
            ));
        }
        if let Some(seen) = &self.many_sessions {
            say(&format!(
                "{} sessions ({:.0}/s created), {} in use: {:.0} MiB of the Host's memory in all",
                seen.sessions, seen.created_per_second, seen.active, seen.host_mib
            ));
        }
        if let Some(seen) = &self.cluster {
            show_cluster(seen);
        }
        say(&format!("written to {}", folder.join("bench.json").display()));
    }
}

/// Returns the median of the values, and how far they lie apart.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => "not measured".to_owned(),
        [one] => format!("{one:.2}"),
        [least, .., most] => format!("{:.2} ({least:.2}–{most:.2})", values[values.len() / 2]),
    }
}

fn show_cluster(seen: &Cluster) {
    let ms = |us: u64| us as f64 / 1e3;
    say(&format!(
        "three nodes on this machine: {:.0} calls/s at 1,024 in flight, one node {:.0}",
        seen.three_nodes_calls_per_second, seen.one_node_calls_per_second
    ));
    say(&format!(
        "one call at a time: p50 {:.2} ms at its owner, {:.2} ms through another node",
        ms(seen.own_p50_us),
        ms(seen.forwarded_p50_us)
    ));
    say(&format!(
        "{} revocations over three nodes: p50 {:.1} ms, p99 {:.1} ms",
        seen.revocations,
        ms(seen.revocation_p50_us),
        ms(seen.revocation_p99_us)
    ));
    say(&format!(
        "a tenant beside one at 50 times its share ({:.0} calls/s): p95 {:.1} ms, alone {:.1} ms",
        seen.burst_calls_per_second,
        ms(seen.quiet_tenant_beside_burst_p95_us),
        ms(seen.quiet_tenant_alone_p95_us)
    ));
}
