//! Measures the Host's side of a dispatch and its result: `cargo run --release -p aesp-runtime --example dispatch_rate`.
//! The Runtime's side is in the same process, so the figures are an upper bound of the Host's cost.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]

#[path = "../tests/harness/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod harness;

use std::time::Duration;

use aesp_proto::v1::{RuntimeFrame, host_frame::Frame as Host, runtime_frame::Frame};
use aesp_runtime::Update;
use futures::StreamExt as _;
use tokio::time::Instant;

use self::harness::{Node, answer};

const MEASURE: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(memory(1_000));
    for workers in [1, 2] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
        for in_flight in [1, 64, 1024] {
            runtime.block_on(measure(workers, in_flight));
        }
    }
}

/// Without the transport: its windows and TLS come on top.
async fn memory(connections: usize) {
    let node = Node::start().await;
    let before = resident_kb();
    let mut held = Vec::new();
    for n in 0..connections {
        held.push(node.runtime(&format!("git-{n}"), 16).await);
    }
    let each = (resident_kb() - before) / connections as f64;
    println!("{connections} connections: {each:.1} kB each, both ends");
}

async fn measure(workers: usize, in_flight: usize) {
    let node = Node::start().await;
    let mut runtime = node.runtime("git", 4096).await;
    tokio::spawn(async move {
        while let Some(Ok(frame)) = runtime.frames.next().await {
            if let Some(Host::Call(call)) = frame.frame {
                let frame = Some(Frame::Result(answer(call.dispatch_id)));
                if runtime.sender.send(Ok(RuntimeFrame { frame })).await.is_err() {
                    return;
                }
            }
        }
    });
    let node = std::sync::Arc::new(node);
    let (start, before) = (Instant::now(), cpu());
    let callers = (0..in_flight).map(|_| {
        let node = node.clone();
        tokio::spawn(async move {
            let mut calls = 0_u64;
            while start.elapsed() < MEASURE {
                let mut attempt = node.runtimes.dispatch(node.call()).unwrap();
                assert!(matches!(attempt.next().await, Some(Update::Result(_))));
                attempt.acknowledge();
                calls += 1;
            }
            calls
        })
    });
    let mut calls = 0;
    for caller in callers.collect::<Vec<_>>() {
        calls += caller.await.unwrap();
    }
    let (seconds, used) = (start.elapsed().as_secs_f64(), cpu() - before);
    let count = calls as f64;
    println!(
        "{workers} workers, {in_flight:>5} in flight: {:>8.0} dispatches/s, {:.2} us of CPU each",
        count / seconds,
        used / count * 1e6
    );
}

/// The seconds of CPU that this process has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn resident_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
