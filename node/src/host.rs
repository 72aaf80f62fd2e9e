use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tonic::service::Routes;

/// A part of the node, as health checks see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name: `store`, `audit`, `actors`, `cluster`, `keys`, `peers`, `backup`. The gRPC health service knows it as `aesp.<name>`.
    pub name: &'static str,
    /// Whether it does its work, or why not.
    pub state: Result<(), String>,
    /// Whether the node can't serve without it.
    pub needed: bool,
}

/// Tells how each component is now. The node is ready when all that it needs do their work.
pub type ReadinessProbe = Arc<dyn Fn() -> Vec<Component> + Send + Sync>;

/// Hears of every refused handshake: where it came from and a constant reason, such as `expired`.
pub type RefusalObserver = Arc<dyn Fn(IpAddr, &'static str) + Send + Sync>;

/// What the wiring hands to the listeners.
pub struct Host {
    /// The gRPC services, behind their guard.
    pub routes: Routes,
    /// What the HTTPS listener serves beside the keys and its health.
    pub https: axum::Router,
    /// Returns the public signing keys (RFC 7517).
    pub jwks: Arc<dyn Fn() -> String + Send + Sync>,
    /// Asked by `/readyz` and the gRPC health service.
    pub ready: ReadinessProbe,
    /// What `/metrics` shows; the listeners add their own.
    pub registry: prometheus::Registry,
    /// Where other nodes reach this one; none for a node that is alone.
    pub peers: Option<SocketAddr>,
    /// Ready when the node has lost its place in the cluster for ever: the process must end.
    pub lost: BoxFuture<'static, ()>,
    /// Ready, with the reason, when the actors crashed beyond what was declared for them: the process must end.
    pub gave_up: BoxFuture<'static, String>,
    /// Ends the components in order.
    pub drain: Box<dyn Drain>,
    /// Told of refused handshakes, for the audit log.
    pub refused: RefusalObserver,
}

/// The parts of an orderly shutdown that belong to the components. Each step is bounded by the caller.
#[async_trait]
pub trait Drain: Send + Sync {
    /// Hands over what the node owns to the other nodes, which answer from then on.
    async fn hand_over(&self);

    /// Tells every connected Runtime to finish its calls within `grace` and to connect elsewhere.
    async fn send_runtimes_away(&self, grace: Duration);

    /// Refuses new calls and returns when none runs any more.
    async fn finish_calls(&self);

    /// Says goodbye to the cluster, so that nobody waits for the node.
    async fn leave(&self);

    /// Writes what is pending and closes the store.
    async fn close(&self);
}
