//! A tenant's limits over three nodes: exact, from wherever they are used, and whoever dies.

mod changed;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use aesp_sdk::{Client, Credentials, ErrorCode, Retry, Session, v1};
use aesp_tests::{Contract, HOUR, Host, Trio, command::json_of, soon, until};
use anyhow::ensure;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

use crate::support::refused;

/// A tool that knows how many of its calls run, wherever their Runtimes are, and holds them until it is told to go on.
#[derive(Clone)]
struct Room {
    running: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    changed: watch::Sender<u32>,
    open: Arc<Semaphore>,
}

impl Room {
    fn new() -> Self {
        Self {
            running: Arc::default(),
            most: Arc::default(),
            changed: watch::Sender::new(0),
            open: Arc::new(Semaphore::new(0)),
        }
    }

    async fn hold(&self) {
        let now = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        self.changed.send_replace(now);
        // Also when the call is cancelled.
        let _leaves = Leaves(self);
        self.open.acquire().await.expect("is never closed").forget();
    }

    /// Waits until exactly so many run.
    async fn running(&self, count: u32) {
        let mut changed = self.changed.subscribe();
        soon("the calls run", changed.wait_for(|now| *now == count)).await.unwrap().unwrap();
    }

    fn most(&self) -> u32 {
        self.most.load(SeqCst)
    }
}

struct Leaves<'a>(&'a Room);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.changed.send_replace(self.0.running.fetch_sub(1, SeqCst) - 1);
    }
}

/// How long a call of the tool `brief` may take.
const BRIEF: Duration = Duration::from_secs(2);

struct Limits {
    trio: Trio,
    room: Room,
    _workers: Vec<aesp_tests::Worker>,
}

impl Limits {
    async fn new() -> Self {
        let trio = Trio::new().await.unwrap();
        trio.offer(Contract::new("hold").timeout_ms(60_000)).await.unwrap();
        trio.offer(Contract::new("brief").timeout_ms(2_000)).await.unwrap();
        let room = Room::new();
        let workers = trio.workers(|runtime| {
            let (room, brief) = (room.clone(), room.clone());
            let runtime = runtime.tool("echo", async |_, args: Value| Ok(args));
            let runtime = runtime.tool("hold", move |_, args: Value| {
                let room = room.clone();
                async move {
                    room.hold().await;
                    Ok(args)
                }
            });
            // Keeps to its time by itself, also when nobody is there any more to cancel it.
            runtime.tool("brief", move |_, args: Value| {
                let brief = brief.clone();
                async move {
                    if args["held"] == true {
                        tokio::time::timeout(BRIEF, brief.hold()).await.ok();
                    }
                    Ok(args)
                }
            })
        });
        let workers = workers.await.unwrap();
        Self { trio, room, _workers: workers }
    }

    async fn quotas(&self, change: impl Fn(&mut v1::Quotas)) {
        let mut quotas =
            v1::Quotas { sessions: 1_000, calls_in_flight: 1_000, calls_per_second: 100_000, runtimes: 100 };
        change(&mut quotas);
        let tenant_id = self.trio.acme.id().to_owned();
        let request = v1::UpdateTenantQuotasRequest { tenant_id, quotas: Some(quotas) };
        self.trio.administrator.tenants().update_tenant_quotas(request).await.unwrap();
    }

    /// Returns a client of the agent that asks once.
    fn client(&self, node: &Host) -> Client {
        let key = Credentials::ApiKey(self.trio.agent.api_key.as_str().into());
        let client = Client::builder(node.tls(None).unwrap()).endpoint(node.endpoint()).credentials(key);
        client.retry(Retry::NEVER).build().unwrap()
    }

    /// Opens a session that each node owns, used by clients that ask once.
    async fn sessions(&self) -> Vec<Session> {
        let mut sessions = Vec::new();
        for node in &self.trio.nodes {
            sessions.push(self.client(node).session(HOUR).await.unwrap());
        }
        sessions
    }

    /// Starts a call that is held at the tool.
    fn hold(&self, session: &Session) -> tokio::task::JoinHandle<Result<(), aesp_sdk::Error>> {
        let session = session.clone();
        tokio::spawn(async move { session.call("hold", json!({})).send().await.map(|_| ()) })
    }

    async fn usage(&self, node: usize) -> v1::TenantUsage {
        let tenant_id = self.trio.acme.id().to_owned();
        let mut tenants = self.trio.nodes[node].administrator().unwrap().tenants();
        tenants.get_tenant_usage(v1::GetTenantUsageRequest { tenant_id }).await.unwrap().into_inner()
    }
}

#[tokio::test]
async fn calls_in_flight_are_counted_over_all_nodes() {
    let limits = Limits::new().await;
    limits.quotas(|quotas| quotas.calls_in_flight = 4).await;
    let sessions = limits.sessions().await;
    // All places are used from any one node, and then there is none at the others.
    for busy in [0, 1, 2, 0] {
        let mut held: Vec<_> = (0..4).map(|_| limits.hold(&sessions[busy])).collect();
        limits.room.running(4).await;
        for session in &sessions {
            let more = session.call("echo", json!({ "text": "more" })).send().await;
            let error = refused(more, &[ErrorCode::QuotaExceeded]);
            assert!(error.message().contains("4 calls in flight"), "{error}");
        }
        let usage = limits.usage((busy + 1) % 3).await;
        assert_eq!(usage.calls_in_flight, 4, "{usage:?}");
        assert!(usage.nodes.iter().all(|node| node.answered), "{usage:?}");
        assert_eq!(usage.nodes.iter().filter(|node| node.home).count(), 1, "{usage:?}");
        limits.room.open.add_permits(4);
        for call in held.drain(..) {
            soon("the call is answered", call).await.unwrap().unwrap().unwrap();
        }
    }
    // From everywhere at once.
    let held: Vec<_> = (0..30).map(|number| limits.hold(&sessions[number % 3])).collect();
    limits.room.open.add_permits(30);
    let (mut answered, mut refusals) = (0, 0);
    for call in held {
        match soon("the call ends", call).await.unwrap().unwrap() {
            Ok(()) => answered += 1,
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::QuotaExceeded, "{error}");
                refusals += 1;
            }
        }
    }
    println!("{answered} answered, {refusals} refused");
    assert!(answered >= 4);
    assert_eq!(limits.room.most(), 4, "more ran at the tools than the quota allows");
}

#[tokio::test]
async fn sessions_are_counted_over_all_nodes() {
    let limits = Limits::new().await;
    limits.quotas(|quotas| quotas.sessions = 7).await;
    let mut opening = JoinSet::new();
    for number in 0..24 {
        let client = limits.client(&limits.trio.nodes[number % 3]);
        opening.spawn(async move { client.session(HOUR).await });
    }
    let mut sessions = Vec::new();
    while let Some(opened) = soon("sessions are opened or refused", opening.join_next()).await.unwrap() {
        match opened.unwrap() {
            Ok(session) => sessions.push(session),
            Err(error) => assert_eq!(error.code(), ErrorCode::QuotaExceeded, "{error}"),
        }
    }
    assert!(sessions.len() <= 7, "{} sessions", sessions.len());
    // What is left is found from any node.
    while sessions.len() < 7 {
        sessions.push(limits.client(&limits.trio.nodes[1]).session(HOUR).await.unwrap());
    }
    for node in [0, 1, 2] {
        let client = limits.client(&limits.trio.nodes[node]);
        refused(client.session(HOUR).await, &[ErrorCode::QuotaExceeded]);
        assert_eq!(limits.usage(node).await.sessions, 7);
    }
    sessions.pop().unwrap().close(false).await.unwrap();
    limits.client(&limits.trio.nodes[2]).session(HOUR).await.expect("one has ended");
    refused(limits.client(&limits.trio.nodes[0]).session(HOUR).await, &[ErrorCode::QuotaExceeded]);
}

#[tokio::test]
async fn the_rate_is_one_over_all_nodes() {
    const RATE: u32 = 20;
    let limits = Limits::new().await;
    let sessions = limits.sessions().await;
    limits.quotas(|quotas| quotas.calls_per_second = RATE).await;
    // A second without any call fills the burst.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for session in &sessions {
        for _ in 0..4 {
            let session = session.clone();
            callers.spawn(async move {
                let mut answered = 0;
                while begun.elapsed() < Duration::from_secs(3) {
                    match session.call("echo", json!({ "text": "on" })).send().await {
                        Ok(_) => answered += 1,
                        Err(error) => assert_eq!(error.code(), ErrorCode::RateLimitExceeded, "{error}"),
                    }
                }
                answered
            });
        }
    }
    let answered: u32 = callers.join_all().await.into_iter().sum();
    let window = begun.elapsed().as_secs_f64();
    // Rate × (window + life of a credit) + burst.
    let most = f64::from(RATE) * (window + 0.256) + f64::from(RATE) + 1.0;
    println!("{answered} calls in {window:.2} s at {RATE}/s");
    assert!(f64::from(answered) <= most, "{answered} of {most}");
    assert!(f64::from(answered) >= f64::from(RATE) * window * 0.8, "{answered} of {most}");
}

#[tokio::test]
async fn a_killed_home_lets_nobody_exceed_a_limit_and_is_replaced_within_seconds() {
    let mut limits = Limits::new().await;
    limits.quotas(|quotas| quotas.calls_in_flight = 4).await;
    let sessions = limits.sessions().await;
    sessions[0].call("brief", json!({})).send().await.unwrap();
    let usage = limits.usage(0).await;
    let home = usage.nodes.iter().find(|node| node.home).expect("somebody has granted the call");
    let at = limits.trio.nodes.iter().position(|node| node.name() == Some(&home.name)).unwrap();
    let (alive, other) = ((at + 1) % 3, (at + 2) % 3);
    // What the dead node may have run is reserved for as long as its longest call may take.
    let dying = sessions[at].clone();
    tokio::spawn(async move { dying.call("brief", json!({ "held": true })).send().await });
    limits.room.running(1).await;
    let _on_the_living = [limits.hold(&sessions[alive]), limits.hold(&sessions[other])];
    limits.room.running(3).await;

    limits.trio.nodes[at].process().kill().await.unwrap();
    let killed = Instant::now();
    // From then on everybody tries to run more than there may be, in sessions of the nodes that live.
    let mut callers = JoinSet::new();
    for number in 0..8 {
        let session = sessions[if number % 2 == 0 { alive } else { other }].clone();
        callers.spawn(async move {
            loop {
                match session.call("hold", json!({})).send().await {
                    Ok(_) => return,
                    Err(_) if killed.elapsed() > Duration::from_secs(40) => return,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
    }
    limits.room.running(4).await;
    println!("the last place was used {:?} after the kill", killed.elapsed());
    assert_eq!(limits.room.most(), 4, "more ran at the tools than the quota allows");
    limits.room.open.add_permits(1_000);
    soon("every call is answered in its turn", callers.join_all()).await.unwrap();
    assert!(limits.room.most() <= 4, "{} ran at once", limits.room.most());
    until("the new home is known", async || {
        let usage = limits.usage(alive).await;
        ensure!(usage.nodes.len() == 2 && usage.nodes.iter().any(|node| node.home), "{usage:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn operators_see_what_a_tenant_uses_from_any_node() {
    let limits = Limits::new().await;
    limits.quotas(|quotas| (quotas.sessions, quotas.calls_in_flight) = (40, 9)).await;
    let sessions = limits.sessions().await;
    let held = [0, 0, 1].map(|node| limits.hold(&sessions[node]));
    limits.room.running(3).await;
    for node in &limits.trio.nodes {
        let usage = |tenant: &str| {
            let mut command = node.command();
            command.env("AESP_API_KEY", node.administrator_key()).args(["tenant", "usage", tenant]);
            command
        };
        let shown = json_of(usage("acme")).await.unwrap();
        assert_eq!((&shown["sessions"], &shown["calls_in_flight"]), (&json!(3), &json!(3)), "{shown}");
        assert_eq!(
            (&shown["quotas"]["sessions"], &shown["quotas"]["calls_in_flight"]),
            (&json!(40), &json!(9))
        );
        assert_eq!(shown["runtimes"], 3, "{shown}");
        let nodes = shown["nodes"].as_array().expect("a list of nodes");
        let names: BTreeSet<_> = nodes.iter().filter_map(|node| node["name"].as_str()).collect();
        assert_eq!(names, BTreeSet::from(["n1", "n2", "n3"]), "{shown}");
        let calls = |name: &str| {
            let node = nodes.iter().find(|node| node["name"] == name);
            node.and_then(|node| node["calls_in_flight"].as_u64()).unwrap_or_default()
        };
        assert_eq!(["n1", "n2", "n3"].map(calls), [2, 1, 0], "{shown}");
        assert_eq!(nodes.iter().filter(|node| node["home"] == true).count(), 1, "{shown}");
        assert!(nodes.iter().all(|node| node["answered"] == true), "{shown}");
        let output = usage("nobody").output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty() && !said.is_empty(), "{output:?}");
    }
    limits.room.open.add_permits(3);
    for call in held {
        soon("the call is answered", call).await.unwrap().unwrap().unwrap();
    }
}
