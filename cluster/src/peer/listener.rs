use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use aesp_proto::{
    Incarnation,
    v1::{
        PeerBatch, PeerHello,
        peer_service_server::{PeerService as Rpc, PeerServiceServer},
    },
};
use futures::{Stream, StreamExt, stream::BoxStream};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{
    Options, Peer, Peers,
    hello::{proves, same_store},
    identity::Identity,
    link::{Link, Outbound, greeting},
    secured::{self, ConnectionInfo, Secured},
};

pub(super) const STREAM_WINDOW_BYTES: u32 = 1 << 20;
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Connections, handshakes included. A cluster has a few dozen nodes.
const CONNECTIONS: usize = 512;
const BACKLOG: usize = 64;
/// How long the acceptor waits when the system has no descriptors left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

impl Options {
    /// Returns what one batch may take on the wire.
    pub(super) fn batch_bytes(&self) -> usize {
        // A batch is closed by the frame that fills it.
        2 * self.limits.message_bytes + (1 << 20)
    }
}

pub(super) async fn serve_tcp(peers: &Peers, listener: TcpListener) -> Result<(), tonic::transport::Error> {
    let (accepted, incoming) = mpsc::channel(BACKLOG);
    let accepting = accept(peers.clone(), listener, accepted);
    let stop = peers.0.stop.clone();
    peers.0.tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting => {}
        }
    });
    serve_incoming(peers, ReceiverStream::new(incoming)).await
}

async fn accept(peers: Peers, listener: TcpListener, accepted: mpsc::Sender<io::Result<Secured>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (socket, remote) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection of a peer");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            peers.refuse("connection_limit", Some(remote));
            continue;
        };
        let (peers, accepted) = (peers.clone(), accepted.clone());
        tokio::spawn(async move {
            let Some(tls) = &peers.0.tls else { return };
            let Options { trust_domain, timing, .. } = &*peers.0.options;
            match secured::accept(socket, remote, tls, trust_domain, timing.handshake).await {
                // Dropped when the server has stopped taking connections.
                Ok(secured) => drop(accepted.send(Ok(secured.holding(place))).await),
                Err(reason) => peers.refuse(reason, Some(remote)),
            }
        });
    }
}

/// Serves connections whose other end has proven which node it is.
pub(super) async fn serve_incoming(
    peers: &Peers,
    incoming: impl Stream<Item = io::Result<Secured>>,
) -> Result<(), tonic::transport::Error> {
    let limit = peers.0.options.batch_bytes();
    let service = PeerServiceServer::new(Acceptor(peers.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(2)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, peers.0.stop.clone().cancelled_owned())
        .await
}

struct Acceptor(Peers);

#[tonic::async_trait]
impl Rpc for Acceptor {
    type LinkStream = BoxStream<'static, Result<PeerBatch, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<PeerBatch>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let peers = &self.0;
        let info = request.extensions().get::<ConnectionInfo>().cloned();
        let info = info.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let within = peers.0.options.timing.handshake;
        let greeted = timeout(within, peers.greeted(request.into_inner(), &info.identity)).await;
        let (link, first, inbound) = greeted.unwrap_or(Err("hello_timeout")).map_err(|reason| {
            peers.refuse(reason, info.remote);
            Status::permission_denied(reason)
        })?;
        peers.admit(&link).await.map_err(Status::already_exists)?;
        let outbound = Outbound(link.clone()).map(Ok).boxed();
        let carrying = peers.clone();
        peers.0.tasks.spawn(async move { carrying.carry(link, first, inbound, info.identity).await });
        Ok(Response::new(outbound))
    }
}

impl Peers {
    /// Reads and checks the greeting of a peer that dialled.
    async fn greeted(
        &self,
        mut inbound: Streaming<PeerBatch>,
        identity: &Identity,
    ) -> Result<(Arc<Link>, PeerBatch, Streaming<PeerBatch>), &'static str> {
        let mut first = inbound.next().await.and_then(Result::ok).ok_or("no_hello")?;
        let hello: PeerHello = greeting(&mut first).ok_or("no_hello")?;
        let answer = self.0.options.answer(&hello)?;
        let (peer, protocol) = (Incarnation(hello.incarnation), answer.newest_protocol);
        let known = self.introduced(peer, &identity.name).await?;
        same_store(protocol, &known, &hello.birth)?;
        // The connection may be older than the lists that are in force.
        if let Some(reason) = self.0.tls.as_ref().and_then(|tls| tls.load().refusal(&identity.chain)) {
            return Err(reason);
        }
        let link = Link::new(peer, hello.attempt, self.0.options.clone(), self.0.metrics.clone(), answer);
        link.agree(protocol);
        Ok((link, first, inbound))
    }

    /// Waits until the store tells of the incarnation, and checks that it belongs to the node that the certificate names.
    async fn introduced(&self, peer: Incarnation, name: &str) -> Result<Peer, &'static str> {
        let mut nodes = self.0.nodes.clone();
        let known = nodes.wait_for(|nodes| nodes.iter().any(|node| node.incarnation == peer));
        let nodes = timeout(self.0.options.timing.introduction, known).await;
        let nodes = nodes.map_err(|_| "unknown_incarnation")?.map_err(|_| "unknown_incarnation")?;
        let proven = nodes.iter().find(|node| node.incarnation == peer && proves(node, name));
        proven.cloned().ok_or("wrong_incarnation")
    }

    fn refuse(&self, reason: &'static str, remote: Option<SocketAddr>) {
        self.0.refusals.note(reason, remote.map(|remote| remote.ip()));
    }
}
