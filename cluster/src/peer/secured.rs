use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::server::Connected;

use super::{LiveTls, Peer, identity::Identity, tls};

/// A byte stream in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection whose other end has proven which node it is. Outside of simulations only a TLS handshake makes one.
pub(crate) struct Secured {
    io: Box<dyn Io>,
    identity: Identity,
    remote: Option<SocketAddr>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Secured {
    pub(super) fn new(io: Box<dyn Io>, identity: Identity, remote: Option<SocketAddr>) -> Self {
        Self { io, identity, remote, _place: None }
    }

    /// Keeps a place among the listener's connections for as long as this one is open.
    pub(super) fn holding(self, place: OwnedSemaphorePermit) -> Self {
        Self { _place: Some(place), ..self }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Opens connections to peers.
#[async_trait]
pub(crate) trait Dial: Send + Sync + 'static {
    /// Connects to a peer and proves who it is.
    ///
    /// # Errors
    /// A constant reason.
    async fn dial(&self, to: &Peer) -> Result<Secured, &'static str>;
}

/// Dials over TCP and TLS.
pub(super) struct TlsDial {
    pub(super) tls: LiveTls,
    pub(super) trust_domain: String,
}

#[async_trait]
impl Dial for TlsDial {
    async fn dial(&self, to: &Peer) -> Result<Secured, &'static str> {
        let socket = TcpStream::connect(&to.endpoint).await.map_err(|_| "unreachable")?;
        // Latency only; the handshake finds out whether the socket works.
        socket.set_nodelay(true).ok();
        let remote = socket.peer_addr().ok();
        // Not sent and not checked: the identity is.
        let name = ServerName::try_from("peer.invalid").map_err(|_| "name")?;
        let connector = TlsConnector::from(self.tls.load().client.clone());
        let stream = connector.connect(name, socket).await.map_err(|error| reason(&error))?;
        let identity = Identity::of(stream.get_ref().1.peer_certificates(), &self.trust_domain)?;
        if identity.name == to.name {
            Ok(Secured::new(Box::new(stream), identity, remote))
        } else {
            Err("wrong_node")
        }
    }
}

/// Proves who connects.
pub(super) async fn accept(
    socket: TcpStream,
    remote: SocketAddr,
    tls: &LiveTls,
    trust_domain: &str,
    within: Duration,
) -> Result<Secured, &'static str> {
    socket.set_nodelay(true).ok();
    let acceptor = TlsAcceptor::from(tls.load().server.clone());
    let stream = timeout(within, acceptor.accept(socket))
        .await
        .map_err(|_| "handshake_timeout")?
        .map_err(|error| reason(&error))?;
    let identity = Identity::of(stream.get_ref().1.peer_certificates(), trust_domain)?;
    Ok(Secured::new(Box::new(stream), identity, Some(remote)))
}

fn reason(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => tls::reason(error),
        None => "disconnected",
    }
}

/// What the service knows of a connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionInfo {
    pub(super) identity: Identity,
    pub(super) remote: Option<SocketAddr>,
}

impl Connected for Secured {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        ConnectionInfo { identity: self.identity.clone(), remote: self.remote }
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
