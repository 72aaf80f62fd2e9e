use std::time::Duration;

use aesp_sdk::v1::ListRuntimesRequest;
use aesp_tests::{Contract, Worker, procfs, until};
use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::json;

use crate::{governed, load};

const RUNTIMES: usize = 3;
const CLIENTS: usize = 4;
/// How often the slow tool is called by each caller, about.
const ROUNDS: u32 = 4;

/// What many calls in flight added to a slow tool.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ManyCalls {
    pub(crate) tool_seconds: u64,
    pub(crate) in_flight: usize,
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) added_p50_ms: f64,
    pub(crate) added_p95_ms: f64,
    pub(crate) added_p99_ms: f64,
}

/// What connections of Runtimes cost.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ManyRuntimes {
    pub(crate) connections: usize,
    pub(crate) seconds_to_connect: f64,
    pub(crate) host_kib_per_connection: f64,
}

/// What sessions cost of which one in a hundred is in use.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ManySessions {
    pub(crate) sessions: usize,
    pub(crate) active: usize,
    pub(crate) created_per_second: f64,
    pub(crate) host_mib: f64,
}

/// Keeps `in_flight` calls of a tool under way that takes `tool_seconds`, each caller at a time of its own.
pub(crate) async fn calls(in_flight: usize, tool_seconds: u64) -> anyhow::Result<ManyCalls> {
    let takes = Duration::from_secs(tool_seconds);
    let (host, tenant, account, certificate) = governed::host().await?;
    tenant.offer(Contract::new("rest")).await?;
    let mut workers = Vec::new();
    for _ in 0..RUNTIMES {
        let runtime = Worker::builder(&host, "worker", &certificate)?.concurrency(4_096);
        let runtime = runtime.tool("rest", move |_, args| async move {
            tokio::time::sleep(takes).await;
            Ok(args)
        });
        workers.push(Worker::start(runtime).await?);
    }
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        sessions.push(account.client(&host)?.session(governed::HOUR).await?);
    }
    let seen = load::run_spread(&sessions, "rest", &json!({}), in_flight, takes * ROUNDS, takes).await?;
    ensure!(!seen.latencies.is_empty(), "no call succeeded: {:?}", seen.why);
    if let Some(why) = &seen.why {
        crate::report::say(&format!("  {} calls failed, one with {why}", seen.failed));
    }
    let added = |q: f64| seen.latencies.value_at_quantile(q) as f64 / 1e3 - takes.as_secs_f64() * 1e3;
    Ok(ManyCalls {
        tool_seconds,
        in_flight,
        calls: seen.latencies.len(),
        failed: seen.failed,
        added_p50_ms: added(0.5),
        added_p95_ms: added(0.95),
        added_p99_ms: added(0.99),
    })
}

/// Connects so many Runtimes at once.
pub(crate) async fn runtimes(connections: usize) -> anyhow::Result<ManyRuntimes> {
    let (mut host, tenant, _, certificate) = governed::host().await?;
    tenant.offer(Contract::new("rest")).await?;
    let pid = host.process().id();
    let connect = async || {
        let runtime = Worker::builder(&host, "worker", &certificate)?;
        Worker::start(runtime.tool("rest", async |_, args| Ok(args))).await
    };
    let first = connect().await?;
    let before = procfs::private_bytes(pid)?;
    let begun = tokio::time::Instant::now();
    let workers: Vec<Worker> =
        stream::iter(0..connections).map(|_| connect()).buffer_unordered(32).try_collect().await?;
    let seconds_to_connect = begun.elapsed().as_secs_f64();
    let administrator = host.administrator()?;
    until("all are connected at once", async || {
        let request = ListRuntimesRequest { tenant_id: tenant.id().to_owned() };
        let list = administrator.runtimes().list_runtimes(request).await?.into_inner().runtimes;
        ensure!(list.len() > connections, "only {} are", list.len());
        Ok(())
    })
    .await?;
    let bytes = procfs::private_bytes(pid)?.saturating_sub(before);
    drop((first, workers));
    let host_kib_per_connection = bytes as f64 / 1024.0 / connections as f64;
    Ok(ManyRuntimes { connections, seconds_to_connect, host_kib_per_connection })
}

/// Creates so many sessions, calls in one of a hundred, and tells how much memory the Host has then.
pub(crate) async fn sessions(sessions: usize) -> anyhow::Result<ManySessions> {
    let (mut host, tenant, account, certificate) = governed::host().await?;
    tenant.offer(Contract::new("rest")).await?;
    let pid = host.process().id();
    let runtime = Worker::builder(&host, "worker", &certificate)?;
    let worker = Worker::start(runtime.tool("rest", async |_, args| Ok(args))).await?;
    let client = account.client(&host)?;
    let begun = tokio::time::Instant::now();
    let create = stream::iter(0..sessions).map(async |_| client.session(governed::HOUR).await);
    let created: Vec<_> = create.buffer_unordered(256).try_collect().await?;
    let created_per_second = sessions as f64 / begun.elapsed().as_secs_f64();
    let active: Vec<_> = created.into_iter().step_by(100).collect();
    for session in &active {
        session.call("rest", json!({})).await?;
    }
    let host_mib = procfs::private_bytes(pid)? as f64 / f64::from(1 << 20);
    drop(worker);
    Ok(ManySessions { sessions, active: active.len(), created_per_second, host_mib })
}
