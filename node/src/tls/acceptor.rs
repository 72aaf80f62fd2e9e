use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use aesp_proto::Clock;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Connections, Live, Metrics, PeerIdentity, PeerInfo, Protocol, connection::Connection, connections::Shown,
    refusal,
};
use crate::host::RefusalObserver;

/// Accepted connections that the server has not taken yet.
const BACKLOG: usize = 128;
/// How long the acceptor waits when the system has no descriptors left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Turns sockets into [`Connection`]s: within the limit of connections, each handshake within its time.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) protocol: Protocol,
    pub(crate) live: Arc<Live>,
    pub(crate) connections: Connections,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limit: Arc<Semaphore>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) refused: RefusalObserver,
}

impl Acceptor {
    /// Accepts until the returned stream is dropped; then the socket is closed.
    pub(crate) fn incoming(self, listener: TcpListener) -> ReceiverStream<io::Result<Connection>> {
        let (accepted, incoming) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            tokio::select! {
                () = accepted.closed() => {}
                () = self.accept(listener, &accepted) => {}
            }
        });
        ReceiverStream::new(incoming)
    }

    async fn accept(&self, listener: TcpListener, accepted: &mpsc::Sender<io::Result<Connection>>) {
        loop {
            let (socket, remote) = match listener.accept().await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, listener = self.protocol.name(), "could not accept a connection");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = self.limit.clone().try_acquire_owned() else {
                self.refuse(remote, "connection_limit");
                continue;
            };
            let (acceptor, accepted) = (self.clone(), accepted.clone());
            tokio::spawn(async move {
                match acceptor.handshake(socket, remote, permit).await {
                    // Dropped when the server has stopped taking connections.
                    Ok(connection) => drop(accepted.send(Ok(connection)).await),
                    Err(reason) => acceptor.refuse(remote, reason),
                }
            });
        }
    }

    async fn handshake(
        &self,
        socket: TcpStream,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Result<Connection, &'static str> {
        // Latency only; the handshake finds out whether the socket works.
        socket.set_nodelay(true).ok();
        let material = self.live.load();
        let tls = TlsAcceptor::from(self.protocol.config(&material));
        let stream = timeout(self.handshake_timeout, tls.accept(socket))
            .await
            .map_err(|_| "handshake_timeout")?
            .map_err(|error| refusal::reason(&error))?;
        let shown = shown(&stream)?;
        let registered = self.connections.register(shown.clone());
        // INVARIANT: registered first, then compared: a reload in between is seen here or sees the connection.
        let newest = self.live.load();
        if !Arc::ptr_eq(&material, &newest)
            && let Some(reason) = shown.as_ref().and_then(|s| s.refusal(&*newest.verifier, self.clock.now()))
        {
            return Err(reason);
        }
        self.metrics.handshakes.with_label_values(&[self.protocol.name(), "accepted"]).inc();
        let peer = PeerInfo { remote: Some(remote), identity: shown.map(|s| s.identity) };
        let gauge = self.metrics.connections.with_label_values(&[self.protocol.name()]);
        Ok(Connection::new(stream, peer, registered, permit, gauge))
    }

    fn refuse(&self, remote: SocketAddr, reason: &'static str) {
        tracing::debug!(%remote, reason, listener = self.protocol.name(), "connection refused");
        self.metrics.handshakes.with_label_values(&[self.protocol.name(), reason]).inc();
        (self.refused)(remote.ip(), reason);
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> Result<Option<Shown>, &'static str> {
    let Some(chain) = stream.get_ref().1.peer_certificates() else { return Ok(None) };
    let end_entity = chain.first().ok_or("bad_certificate")?;
    let identity = PeerIdentity::parse(end_entity).map_err(|_| "nameless_certificate")?;
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    Ok(Some(Shown { identity: Arc::new(identity), chain }))
}
