use std::{net::SocketAddr, sync::Arc};

use aesp_proto::{Clock, SystemClock};
use anyhow::Context;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Host, listen,
    shutdown::Shutdown,
    tls::{self, Protocol},
};

/// Serves until SIGTERM or SIGINT, then shuts down in order; a second signal leaves at once.
///
/// # Errors
/// When an address can't be bound, TLS material can't be used, or a listener fails.
pub async fn serve(config: Config, host: Host) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let running = Node::bind(config, host).await?.run(stop.clone());
    tokio::pin!(running);
    loop {
        tokio::select! {
            outcome = &mut running => return outcome,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        anyhow::ensure!(!stop.is_cancelled(), "a second signal ended the shutdown early");
        stop.cancel();
    }
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// HTTPS.
    pub https: SocketAddr,
    /// Metrics and probes.
    pub metrics: SocketAddr,
    /// Other nodes; none for a node that is alone.
    pub peers: Option<SocketAddr>,
}

/// A node whose listeners are bound and not served yet.
pub struct Node {
    config: Config,
    host: Host,
    clock: Arc<dyn Clock>,
    material: tls::Material,
    grpc: TcpListener,
    https: TcpListener,
    metrics: TcpListener,
}

impl Node {
    /// Loads the TLS material and binds the listeners.
    ///
    /// # Errors
    /// When material can't be used or an address is taken.
    pub async fn bind(config: Config, host: Host) -> anyhow::Result<Self> {
        Self::bind_at(config, host, Arc::new(SystemClock)).await
    }

    pub(crate) async fn bind_at(config: Config, host: Host, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let material = tls::Material::load(&config.tls, &clock)?;
        let (grpc, https, metrics) = tokio::try_join!(
            listen_on("listen.grpc", config.listen.grpc),
            listen_on("listen.https", config.listen.https),
            listen_on("listen.metrics", config.listen.metrics),
        )?;
        Ok(Self { config, host, clock, material, grpc, https, metrics })
    }

    /// Returns where the node listens; for a configured port 0, the one that it got.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            grpc: self.grpc.local_addr()?,
            https: self.https.local_addr()?,
            metrics: self.metrics.local_addr()?,
            peers: self.host.peers,
        })
    }

    /// Serves until `stop`, then shuts down in order.
    ///
    /// # Errors
    /// When a listener fails, and the others are shut down then, too; or when the node lost its place in the cluster for ever.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let addresses = self.addresses()?;
        let Self { config, host, clock, material, grpc, https, metrics } = self;
        crate::metrics::register_build(&host.registry)?;
        let counters = tls::Metrics::register(&host.registry)?;
        let connections = tls::Connections::new(counters.clone());
        let live = tls::Live::new(material);
        let acceptor = |protocol| tls::Acceptor {
            protocol,
            live: live.clone(),
            connections: connections.clone(),
            clock: clock.clone(),
            limit: Arc::new(Semaphore::new(config.limits.connections as usize)),
            handshake_timeout: config.limits.handshake_timeout(),
            metrics: counters.clone(),
            refused: host.refused.clone(),
        };
        let readiness = listen::Readiness::new(host.ready);
        let (routes, health) = listen::with_public(host.routes, readiness.clone(), &host.registry)?;
        let shutdown = Shutdown::new(readiness.clone(), health.clone(), host.drain, connections.clone());

        let mut background = JoinSet::new();
        background.spawn(health.follow());
        let watch =
            tls::Watch::new(config.tls, clock.clone(), live.clone(), connections.clone(), counters.clone());
        background.spawn(async move {
            if let Err(error) = watch.run().await {
                tracing::error!(%error, "certificates are not followed");
            }
        });
        let probes = listen::probe_router(host.registry, readiness);
        background.spawn(async move {
            if let Err(error) = axum::serve(metrics, probes).await {
                tracing::error!(%error, "metrics listener ended");
            }
        });

        let mut servers = JoinSet::new();
        let accepting = shutdown.accepting();
        let incoming = acceptor(Protocol::Grpc).incoming(grpc);
        servers.spawn(listen::serve_grpc(routes, incoming, config.limits.clone(), accepting.clone()));
        let incoming = acceptor(Protocol::Https).incoming(https);
        servers.spawn(listen::serve_https(
            listen::https_router(host.jwks).merge(host.https),
            incoming,
            accepting,
        ));

        let Addresses { grpc, https, metrics, peers } = addresses;
        let peers = peers.map(tracing::field::display);
        tracing::info!(node = config.node.name, %grpc, %https, %metrics, peers, "listening");
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = host.lost => {
                tracing::error!("another node declared this one dead; it ends, and starts again under a new number");
                shutdown.abandon().await;
                anyhow::bail!("the node was declared dead because it did not renew its lease in time; start it again");
            }
            reason = host.gave_up => {
                tracing::error!(reason, "the node can't go on; it ends, and its supervisor starts it again");
                Err(anyhow::anyhow!("the node can't go on: {reason}; start it again"))
            }
            Some(ended) = servers.join_next() => {
                ended.map_err(anyhow::Error::from).flatten().and(Err(anyhow::anyhow!("a listener ended by itself")))
            }
        };
        shutdown.run(servers, config.limits.drain_seconds).await;
        ended
    }
}

async fn listen_on(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("can't listen on {address} ({key})"))
}

#[cfg(test)]
mod tests;
