use std::time::Duration;

use aesp_proto::{Error as Refusal, Incarnation, TenantId, v1};
use bytes::Bytes;
use futures::future::join_all;
use prost::Message as _;
use tokio::time::timeout;

use crate::{
    Error, Quotas, Tenants,
    counts::{Counts, Each, Limit},
    tenant::Seat,
};

/// How long a node is given to say what it uses.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a tenant uses, over all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Sessions that have not ended.
    pub sessions: u32,
    /// Calls that run.
    pub calls_in_flight: u32,
    /// Connected Runtimes.
    pub runtimes: u32,
    /// Places of calls that ran on nodes that died, kept until the calls must have ended.
    pub reserved_calls: u32,
    /// What it may use, as last seen here; the store's row is the truth.
    pub quotas: Quotas,
    /// What each node uses and holds.
    pub nodes: Vec<NodeUsage>,
}

/// What one node uses of a tenant's quotas, and how much it may use without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeUsage {
    /// The node.
    pub node: Incarnation,
    /// Whether it answered; if not, all numbers are 0.
    pub answered: bool,
    /// Whether it hands out the tenant's credits.
    pub home: bool,
    /// Calls that run there.
    pub calls_in_flight: u32,
    /// Calls that may run there.
    pub calls_held: u32,
    /// Runtimes that are connected there.
    pub runtimes: u32,
    /// Runtimes that may be connected there.
    pub runtimes_held: u32,
    /// New sessions that it may store.
    pub sessions_held: u32,
    reserved_calls: u32,
}

impl Tenants {
    /// Returns what the tenant uses on every node, and who holds what.
    ///
    /// # Errors
    /// The store's.
    pub async fn usage(&self, tenant: TenantId) -> Result<Usage, Error> {
        let sessions = self.stored_sessions(tenant).await?;
        let nodes = (self.0.wiring.living)().into_iter().map(|node| self.usage_of(node, tenant));
        let nodes = join_all(nodes).await;
        let sum = |of: fn(&NodeUsage) -> u32| nodes.iter().map(of).fold(0, u32::saturating_add);
        Ok(Usage {
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
            calls_in_flight: sum(|node| node.calls_in_flight),
            runtimes: sum(|node| node.runtimes),
            reserved_calls: sum(|node| node.reserved_calls),
            quotas: self.known(tenant).holder().newest().quotas,
            nodes,
        })
    }

    /// Answers another node: what this one uses of a tenant's limits.
    ///
    /// # Errors
    /// When the question makes no sense.
    pub fn asked(&self, payload: &[u8]) -> Result<Bytes, Refusal> {
        let ask = v1::CreditUsageAsk::decode(payload).ok();
        let tenant = ask.and_then(|ask| Some(TenantId::from_bytes(ask.tenant_id.try_into().ok()?)));
        let tenant = tenant.ok_or_else(|| Refusal::invalid("the question names no tenant"))?;
        Ok(self.own_usage(tenant).encode_to_vec().into())
    }

    async fn usage_of(&self, node: Incarnation, tenant: TenantId) -> NodeUsage {
        if node == self.own() {
            return read(node, Some(self.own_usage(tenant)));
        }
        let Some(peers) = self.0.peers.get() else { return read(node, None) };
        let ask = v1::CreditUsageAsk { tenant_id: tenant.as_bytes().to_vec() }.encode_to_vec();
        let answer = timeout(PATIENCE, peers.ask(node, ask.into())).await.ok().flatten();
        read(node, answer.and_then(|answer| v1::CreditUsage::decode(answer).ok()))
    }

    fn own_usage(&self, tenant: TenantId) -> v1::CreditUsage {
        let tenant = self.known(tenant);
        let levels = tenant.gate.levels();
        let home = match &*tenant.seat() {
            Seat::Taken(home) => Some(home.reserved_calls()),
            Seat::Empty | Seat::Loading(..) => None,
        };
        v1::CreditUsage {
            used: Some(Each::new(|limit| levels[limit].used).into()),
            limits: Some(Each::new(|limit| levels[limit].limit).into()),
            home: home.is_some(),
            reserved_calls: home.unwrap_or_default(),
        }
    }
}

fn read(node: Incarnation, usage: Option<v1::CreditUsage>) -> NodeUsage {
    let answered = usage.is_some();
    let usage = usage.unwrap_or_default();
    let (used, limits) =
        (Counts::from(usage.used.unwrap_or_default()), Counts::from(usage.limits.unwrap_or_default()));
    NodeUsage {
        node,
        answered,
        home: usage.home,
        calls_in_flight: used[Limit::Calls],
        calls_held: limits[Limit::Calls],
        runtimes: used[Limit::Runtimes],
        runtimes_held: limits[Limit::Runtimes],
        sessions_held: limits[Limit::Sessions],
        reserved_calls: usage.reserved_calls,
    }
}

impl From<Usage> for v1::TenantUsage {
    fn from(usage: Usage) -> Self {
        let node = |node: NodeUsage| v1::NodeCredits {
            node: node.node.0,
            name: String::new(),
            answered: node.answered,
            home: node.home,
            calls_in_flight: node.calls_in_flight,
            calls_held: node.calls_held,
            runtimes: node.runtimes,
            runtimes_held: node.runtimes_held,
            sessions_held: node.sessions_held,
        };
        Self {
            sessions: usage.sessions,
            calls_in_flight: usage.calls_in_flight,
            runtimes: usage.runtimes,
            quotas: Some(usage.quotas.into()),
            reserved_calls: usage.reserved_calls,
            nodes: usage.nodes.into_iter().map(node).collect(),
        }
    }
}
