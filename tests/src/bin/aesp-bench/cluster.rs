use std::time::Duration;

use aesp_sdk::{
    Session,
    v1::{AssignRoleRequest, RevokeRoleRequest},
};
use aesp_tests::{Certificate, Contract, HOUR, Host, Tenant, Trio, Worker, World, platform};
use anyhow::ensure;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::json;
use tokio::{sync::oneshot, time::Instant};

use crate::load;

/// How many calls are under way in the comparison of three nodes with one.
const IN_FLIGHT: usize = 1_024;
/// The share of the quiet tenant and, at fifty times that, what the other wants.
const SHARE: usize = 4;
const TIMES: usize = 50;
/// How many calls the tenants' one Runtime takes at a time, and how long each takes it.
const SLOTS: u32 = 16;
const WORK: Duration = Duration::from_millis(10);

/// What three nodes do, on one machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cluster {
    pub(crate) one_node_calls_per_second: f64,
    pub(crate) three_nodes_calls_per_second: f64,
    pub(crate) own_p50_us: u64,
    pub(crate) forwarded_p50_us: u64,
    pub(crate) revocations: u64,
    pub(crate) revocation_p50_us: u64,
    pub(crate) revocation_p99_us: u64,
    pub(crate) quiet_tenant_alone_p95_us: u64,
    pub(crate) quiet_tenant_beside_burst_p95_us: u64,
    pub(crate) burst_calls_per_second: f64,
}

/// Measures three nodes, each part for about `length`; `revocations` are made one after the other.
pub(crate) async fn measure(length: Duration, revocations: usize) -> anyhow::Result<Cluster> {
    let one_node_calls_per_second = one_node(length).await?;
    let trio = Trio::new().await?;
    let workers = trio.workers(|runtime| runtime.concurrency(4_096).tool("echo", async |_, args| Ok(args)));
    let workers = workers.await?;
    let mut sessions = Vec::new();
    for node in 0..trio.nodes.len() {
        sessions.push(trio.session(node).await?);
    }
    let three = throughput(&sessions, length).await?;
    let elsewhere = trio.through(1, &sessions[0]).await?;
    let own_p50_us = median(&sessions[0], length / 2).await?;
    let forwarded_p50_us = median(&elsewhere, length / 2).await?;
    let revoked = revoke(&trio, revocations).await?;
    drop(workers);
    let fair = Fair::measure(&trio, length).await?;
    Ok(Cluster {
        one_node_calls_per_second,
        three_nodes_calls_per_second: three,
        own_p50_us,
        forwarded_p50_us,
        revocations: revoked.len(),
        revocation_p50_us: revoked.value_at_quantile(0.5),
        revocation_p99_us: revoked.value_at_quantile(0.99),
        quiet_tenant_alone_p95_us: fair.alone_p95_us,
        quiet_tenant_beside_burst_p95_us: fair.beside_p95_us,
        burst_calls_per_second: fair.burst,
    })
}

async fn one_node(length: Duration) -> anyhow::Result<f64> {
    let world = World::new().await?;
    let runtime = world.runtime()?.concurrency(4_096).tool("echo", async |_, args| Ok(args));
    let worker = Worker::start(runtime).await?;
    let sessions = [world.session().await?, world.session().await?, world.session().await?];
    let seen = throughput(&sessions, length).await?;
    drop(worker);
    Ok(seen)
}

async fn throughput(sessions: &[Session], length: Duration) -> anyhow::Result<f64> {
    let args = json!({ "text": "x".repeat(245) });
    load::run(sessions, "echo", &args, 64, length / 5).await?;
    let seen = load::run(sessions, "echo", &args, IN_FLIGHT, length).await?;
    if let Some(why) = &seen.why {
        crate::report::say(&format!("  {} calls failed, one with {why}", seen.failed));
    }
    Ok(seen.latencies.len() as f64 / seen.took.as_secs_f64())
}

/// Measures one call at a time.
async fn median(session: &Session, length: Duration) -> anyhow::Result<u64> {
    let args = json!({ "text": "x".repeat(245) });
    let seen = load::run(std::slice::from_ref(session), "echo", &args, 1, length).await?;
    ensure!(seen.failed == 0, "{} calls failed: {:?}", seen.failed, seen.why);
    Ok(seen.latencies.value_at_quantile(0.5))
}

/// Takes a role away again and again and tells how many microseconds each revocation took: its commit, and until no node acts on the right.
async fn revoke(trio: &Trio, times: usize) -> anyhow::Result<Histogram<u64>> {
    trio.acme.role("passing", &["tool:echo"]).await?;
    let someone = trio.acme.account("someone", &[]).await?.principal.principal_id;
    let mut took = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let (tenant_id, role) = (trio.acme.id().to_owned(), "passing".to_owned());
    for _ in 0..times {
        let mut authorization = trio.administrator.authorization();
        let request = AssignRoleRequest {
            tenant_id: tenant_id.clone(),
            principal_id: someone.clone(),
            role: role.clone(),
            expires_at_ms: 0,
        };
        authorization.assign_role(request).await?;
        let request = RevokeRoleRequest {
            tenant_id: tenant_id.clone(),
            principal_id: someone.clone(),
            role: role.clone(),
        };
        let begun = Instant::now();
        authorization.revoke_role(request).await?;
        took.saturating_record(u64::try_from(begun.elapsed().as_micros())?);
    }
    Ok(took)
}

/// A tenant's latency while another wants fifty times its share of one Runtime, through all nodes.
struct Fair {
    alone_p95_us: u64,
    beside_p95_us: u64,
    burst: f64,
}

impl Fair {
    async fn measure(trio: &Trio, length: Duration) -> anyhow::Result<Self> {
        let quiet = platform::create_tenant(&trio.administrator, "quiet").await?;
        let loud = platform::create_tenant(&trio.administrator, "loud").await?;
        let certificate = platform::register(&trio.nodes[0], "shared", &[&quiet, &loud]).await?;
        let mut quiet_sessions = Vec::new();
        let mut loud_sessions = Vec::new();
        for (tenant, sessions) in [(&quiet, &mut quiet_sessions), (&loud, &mut loud_sessions)] {
            tenant.offer(Contract::new("work")).await?;
            tenant.role("caller", &["*"]).await?;
            sessions.extend(everywhere(tenant, &trio.nodes).await?);
        }
        let worker = shared(&trio.nodes[0], &certificate).await?;
        let calm = load::run(&quiet_sessions, "work", &json!({}), SHARE, length).await?;
        let (begun, begins) = oneshot::channel();
        let burst = tokio::spawn(async move {
            // Nobody waits for it any more when the measurement broke off.
            let _ = begun.send(());
            load::run(&loud_sessions, "work", &json!({}), SHARE * TIMES, length + length / 2).await
        });
        begins.await?;
        load::run(&quiet_sessions, "work", &json!({}), SHARE, length / 4).await?;
        let beside = load::run(&quiet_sessions, "work", &json!({}), SHARE, length).await?;
        let burst = burst.await??;
        drop(worker);
        for (seen, what) in [(&calm, "alone"), (&beside, "beside the burst"), (&burst, "the burst")] {
            ensure!(seen.failed == 0, "{what}: {} calls failed: {:?}", seen.failed, seen.why);
        }
        Ok(Self {
            alone_p95_us: calm.latencies.value_at_quantile(0.95),
            beside_p95_us: beside.latencies.value_at_quantile(0.95),
            burst: burst.latencies.len() as f64 / burst.took.as_secs_f64(),
        })
    }
}

async fn everywhere(tenant: &Tenant, nodes: &[Host]) -> anyhow::Result<Vec<Session>> {
    let account = tenant.account("load", &["caller"]).await?;
    let mut sessions = Vec::new();
    for node in nodes {
        sessions.push(account.client(node)?.session(HOUR).await?);
    }
    Ok(sessions)
}

async fn shared(host: &Host, certificate: &Certificate) -> anyhow::Result<Worker> {
    let runtime = Worker::builder(host, "shared", certificate)?.concurrency(SLOTS);
    let runtime = runtime.tool("work", async |_, args| {
        tokio::time::sleep(WORK).await;
        Ok(args)
    });
    Worker::start(runtime).await
}
