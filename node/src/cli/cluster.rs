use aesp_proto::v1;
use clap::Subcommand;

use super::{context::Context, failure::Failure};

const COLUMNS: &[&str] = &[
    "name",
    "incarnation",
    "state",
    "shards",
    "lease_age_ms",
    "sessions",
    "calls",
    "behind",
    "version",
    "endpoint",
];

/// The nodes of the cluster.
#[derive(Subcommand, Debug)]
pub(crate) enum Cluster {
    /// Show the nodes: what each owns, how old its lease is, how busy it is.
    Status,
    /// Have a node hand over all that it owns; it goes on as a gateway until it is stopped.
    Drain {
        /// Its name or incarnation.
        node: String,
    },
    /// Move shards to the nodes that should have them, now.
    Rebalance,
    /// Declare a node dead whose lease is silent; one that lives is told to drain instead.
    Remove {
        /// Its name or incarnation.
        node: String,
    },
}

impl Cluster {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut cluster = ctx.client()?.cluster();
        match self {
            Self::Status => {
                let answer = cluster.get_cluster_status(v1::GetClusterStatusRequest {}).await?;
                ctx.show_list("ClusterStatus", answer, "nodes", COLUMNS)
            }
            Self::Drain { node } => {
                ctx.show("DrainNodeResponse", cluster.drain_node(v1::DrainNodeRequest { node }).await?)
            }
            Self::Rebalance => {
                let answer = cluster.rebalance_cluster(v1::RebalanceClusterRequest {}).await?;
                ctx.show("RebalanceClusterResponse", answer)
            }
            Self::Remove { node } => {
                ctx.show("RemoveNodeResponse", cluster.remove_node(v1::RemoveNodeRequest { node }).await?)
            }
        }
    }
}
