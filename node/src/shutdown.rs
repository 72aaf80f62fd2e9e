use std::{future::Future, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Drain,
    listen::{Health, Readiness},
    tls::Connections,
};

const READINESS_OFF: Duration = Duration::from_secs(1);
const RUNTIMES_AWAY: Duration = Duration::from_secs(2);
const CONNECTIONS_CLOSE: Duration = Duration::from_secs(5);
const LEAVE: Duration = Duration::from_secs(5);
const ABANDONED: Duration = Duration::from_secs(3);
/// What a hand-over may take beyond the calls that it waits for.
const HAND_OVER: Duration = Duration::from_secs(5);
const STORE_CLOSE: Duration = Duration::from_secs(10);

/// What an orderly end needs.
pub(crate) struct Shutdown {
    readiness: Readiness,
    health: Health,
    drain: Box<dyn Drain>,
    connections: Connections,
    accepting: CancellationToken,
}

impl Shutdown {
    pub(crate) fn new(
        readiness: Readiness,
        health: Health,
        drain: Box<dyn Drain>,
        connections: Connections,
    ) -> Self {
        Self { readiness, health, drain, connections, accepting: CancellationToken::new() }
    }

    /// Returns the token that tells the listeners to take nothing new.
    pub(crate) fn accepting(&self) -> CancellationToken {
        self.accepting.clone()
    }

    /// Ends the node in order. Each step is bounded; one that takes too long is logged and left behind.
    pub(crate) async fn run(self, mut servers: JoinSet<anyhow::Result<()>>, drain_seconds: u32) {
        let drain_for = Duration::from_secs(drain_seconds.into());

        // First, so that load balancers and clients look elsewhere while everything still works.
        self.readiness.leave();
        step("readiness off", READINESS_OFF, self.health.report()).await;
        // Shard by shard: new calls wait at the successor while those that run here end, with the Runtimes that they run at.
        step("shards handed over", drain_for + HAND_OVER, self.drain.hand_over()).await;
        // Runtimes connect elsewhere before their calls here end.
        step("runtimes sent away", RUNTIMES_AWAY, self.drain.send_runtimes_away(drain_for)).await;
        // Open connections hear a GOAWAY: running calls and Runtime streams go on.
        self.accepting.cancel();
        step("calls finished", drain_for, self.drain.finish_calls()).await;

        tracing::info!(open = self.connections.count(), "closing connections");
        self.connections.close_all();
        step("connections closed", CONNECTIONS_CLOSE, async { while servers.join_next().await.is_some() {} })
            .await;
        step("cluster left", LEAVE, self.drain.leave()).await;
        step("store closed", STORE_CLOSE, self.drain.close()).await;
    }

    /// Ends the node at once after it has lost its place: nothing that it could finish counts. What waits for the audit log is
    /// written if the store takes it.
    pub(crate) async fn abandon(self) {
        self.readiness.leave();
        self.accepting.cancel();
        self.connections.close_all();
        step("store closed", ABANDONED, self.drain.close()).await;
    }
}

async fn step(name: &'static str, bound: Duration, work: impl Future<Output = ()>) {
    let began = Instant::now();
    let finished = timeout(bound, work).await.is_ok();
    let elapsed_ms = began.elapsed().as_millis();
    if finished {
        tracing::info!(step = name, elapsed_ms, "shutdown step done");
    } else {
        tracing::warn!(step = name, elapsed_ms, "shutdown step took too long and was left behind");
    }
}
