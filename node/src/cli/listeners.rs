use std::net::SocketAddr;

use clap::Args;

/// Where a node that is made will listen.
#[derive(Args, Debug)]
pub(super) struct Listeners {
    /// Where the node will take gRPC.
    #[arg(long = "listen-grpc", value_name = "ADDRESS")]
    pub(super) grpc: Option<SocketAddr>,
    /// Where it will take HTTPS.
    #[arg(long = "listen-https", value_name = "ADDRESS")]
    pub(super) https: Option<SocketAddr>,
    /// Where it will show metrics and probes.
    #[arg(long = "listen-metrics", value_name = "ADDRESS")]
    pub(super) metrics: Option<SocketAddr>,
    /// Where other nodes will reach it. A first node becomes one of a cluster by it.
    #[arg(long = "listen-peers", value_name = "ADDRESS")]
    pub(super) peers: Option<SocketAddr>,
}
