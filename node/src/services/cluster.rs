use std::time::Duration;

use aesp_cluster::{NodeStatus, peer::Topic};
use aesp_proto::{
    Error, ErrorCode, Incarnation, TenantId,
    v1::{
        ClusterNode, ClusterStatus, CreateJoinTokenRequest, CreateJoinTokenResponse, DrainAsk,
        DrainNodeRequest, DrainNodeResponse, GetClusterAuthoritiesRequest, GetClusterAuthoritiesResponse,
        GetClusterStatusRequest, JoinClusterRequest, JoinClusterResponse, ListJoinTokensRequest,
        ListJoinTokensResponse, PeerAsk, PeerDone, RebalanceClusterRequest, RebalanceClusterResponse,
        RemoveNodeRequest, RemoveNodeResponse, RevokeJoinTokenRequest, RevokeJoinTokenResponse,
        cluster_service_server, peer_ask::Ask,
    },
};
use prost::Message;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::{Context, context::source, enter};

/// How long an operator waits for a node to hand over what it owns.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

/// The nodes of the cluster.
pub(crate) struct Nodes(pub(crate) Context);

impl Nodes {
    async fn status(&self) -> Result<Vec<NodeStatus>, Error> {
        Ok(self.0.cluster.status().await?)
    }

    /// Finds a living node by its incarnation or its name.
    async fn find(&self, named: &str) -> Result<Incarnation, Error> {
        let nodes = self.status().await?;
        let number = named.parse().ok().map(Incarnation);
        let found = nodes.iter().find(|node| Some(node.incarnation) == number || node.name == named);
        found.map(|node| node.incarnation).ok_or_else(|| {
            Error::new(ErrorCode::NotFound, "there is no such node")
                .remedy("list the nodes: aesp cluster status")
        })
    }

    /// Refuses what makes no sense where there is one node.
    fn not_alone(&self) -> Result<(), Error> {
        if self.0.others.peers().is_some() {
            return Ok(());
        }
        Err(Error::new(ErrorCode::StateConflict, "this node is alone: there is nobody to hand over to")
            .remedy(
                "stop the node, or make it a member of a cluster: aesp config default explains [cluster]",
            ))
    }

    /// Has a node hand over its shards; returns how many are left.
    async fn drain(&self, node: Incarnation) -> Result<usize, Error> {
        if node == self.0.cluster.own() {
            let cluster = self.0.cluster.clone();
            // Goes to its end also if the operator stops waiting.
            let draining = tokio::spawn(async move { cluster.drain().await });
            return match timeout(DRAINED_WITHIN, draining).await {
                Ok(left) => left.map_err(Error::internal),
                Err(_) => self.left(node).await,
            };
        }
        let unreachable = || {
            Error::new(ErrorCode::ServiceUnavailable, "the node can't be reached from this one")
                .remedy("ask the node itself, or remove it if it is dead: aesp cluster remove")
        };
        let peers = self.0.others.peers().ok_or_else(unreachable)?;
        let ask = PeerAsk { ask: Some(Ask::Drain(DrainAsk {})) };
        let answer = peers.request(node, Topic::Forward, ask.encode_to_vec().into());
        let answer = answer.map_err(|error| unreachable().because(error))?;
        match timeout(DRAINED_WITHIN, answer.one()).await {
            Ok(Ok(done)) => {
                let done = PeerDone::decode(done).map_err(Error::internal)?;
                Ok(usize::try_from(done.count).unwrap_or(usize::MAX))
            }
            Ok(Err(error)) => Err(unreachable().because(error)),
            Err(_) => self.left(node).await,
        }
    }

    async fn left(&self, node: Incarnation) -> Result<usize, Error> {
        let nodes = self.status().await?;
        Ok(nodes.iter().find(|one| one.incarnation == node).map_or(0, |one| one.shards))
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn wire(node: NodeStatus) -> ClusterNode {
    ClusterNode {
        name: node.name,
        incarnation: node.incarnation.0,
        state: node.state.name().to_owned(),
        shards: small(node.shards),
        lease_age_ms: node.lease_age_ms,
        lease_ms: node.lease_ms,
        behind: node.behind,
        sessions: node.load.sessions,
        calls: node.load.calls,
        version: node.version,
        endpoint: node.endpoint,
        skew_ms: node.skew_ms,
        alive: node.alive,
        damaged: node.damaged,
        runtimes: None,
        protocol: node.protocol,
        datacenter: node.locality.datacenter,
        zone: node.locality.zone,
    }
}

#[tonic::async_trait]
impl cluster_service_server::ClusterService for Nodes {
    async fn get_cluster_status(
        &self,
        request: Request<GetClusterStatusRequest>,
    ) -> Result<Response<ClusterStatus>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let own = self.0.cluster.own();
        let connected = small(self.0.runtimes.list(None).len());
        let status = self.status().await;
        self.0.read(&granted, "cluster".into(), |_| Box::pin(async { Ok(()) })).await?;
        let nodes = status?.into_iter().map(|node| {
            let runtimes = (node.incarnation == own).then_some(connected);
            ClusterNode { runtimes, ..wire(node) }
        });
        Ok(Response::new(ClusterStatus {
            cluster_id: self.0.cluster.id().to_owned(),
            answered_by: own.0,
            nodes: nodes.collect(),
        }))
    }

    async fn drain_node(
        &self,
        request: Request<DrainNodeRequest>,
    ) -> Result<Response<DrainNodeResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let resource = format!("node:{}", entry.message.node);
        self.0.checked(&granted, &resource, self.not_alone()).await?;
        let node = self.0.checked(&granted, &resource, self.find(&entry.message.node).await).await?;
        self.0.recorder.append(granted.changed(format!("node:{node}"))).await.map_err(Error::from)?;
        let left = self.0.checked(&granted, &resource, self.drain(node).await).await?;
        Ok(Response::new(DrainNodeResponse { incarnation: node.0, shards_left: small(left) }))
    }

    async fn rebalance_cluster(
        &self,
        request: Request<RebalanceClusterRequest>,
    ) -> Result<Response<RebalanceClusterResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        self.0.recorder.append(granted.changed("cluster")).await.map_err(Error::from)?;
        let moving = self.0.checked(&granted, "cluster", self.0.cluster.rebalance().await).await?;
        Ok(Response::new(RebalanceClusterResponse { moving: small(moving) }))
    }

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> Result<Response<RemoveNodeResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let resource = format!("node:{}", entry.message.node);
        self.0.checked(&granted, &resource, self.not_alone()).await?;
        let node = self.0.checked(&granted, &resource, self.find(&entry.message.node).await).await?;
        self.0.recorder.append(granted.changed(format!("node:{node}"))).await.map_err(Error::from)?;
        self.0.checked(&granted, &resource, self.0.cluster.remove(node).await).await?;
        Ok(Response::new(RemoveNodeResponse { incarnation: node.0 }))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        Ok(Response::new(self.create_token(enter(request)?).await?))
    }

    async fn list_join_tokens(
        &self,
        request: Request<ListJoinTokensRequest>,
    ) -> Result<Response<ListJoinTokensResponse>, Status> {
        Ok(Response::new(self.list_tokens(enter(request)?).await?))
    }

    async fn revoke_join_token(
        &self,
        request: Request<RevokeJoinTokenRequest>,
    ) -> Result<Response<RevokeJoinTokenResponse>, Status> {
        Ok(Response::new(self.revoke_token(enter(request)?).await?))
    }

    async fn join_cluster(
        &self,
        request: Request<JoinClusterRequest>,
    ) -> Result<Response<JoinClusterResponse>, Status> {
        let source = source(&request);
        Ok(Response::new(self.join(&source, request.into_inner()).await?))
    }

    async fn get_cluster_authorities(
        &self,
        _: Request<GetClusterAuthoritiesRequest>,
    ) -> Result<Response<GetClusterAuthoritiesResponse>, Status> {
        Ok(Response::new(self.authorities().await?))
    }
}
