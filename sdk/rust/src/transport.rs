//! One TLS connection to one node.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use aesp_proto::{Error, ErrorCode};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint as TonicEndpoint};
use tracing::debug;

use crate::{endpoint::Endpoint, tls::Tls};

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a connection ended, if it has.
#[derive(Debug, Default)]
struct Ending {
    over: AtomicBool,
    /// What TLS said, for example that the node does not accept our certificate. In TLS 1.3 that comes after the handshake.
    refusal: OnceLock<rustls::Error>,
}

/// An established connection. It never reconnects by itself: whoever holds it chooses the next endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    channel: Channel,
    ending: Arc<Ending>,
}

impl Connection {
    /// Connects within `limit`, TLS included.
    pub(crate) async fn open(endpoint: &Endpoint, tls: &Tls, limit: Duration) -> Result<Self, Error> {
        let ending = Arc::<Ending>::default();
        let socket = timeout(limit, handshake(endpoint, tls, Arc::clone(&ending)))
            .await
            .map_err(|_| unreachable(endpoint, "no answer within the time limit"))??;
        let mut socket = Some(TokioIo::new(socket));
        let connector = tower::service_fn(move |_| {
            let socket = socket.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
            async move { socket }
        });
        // The scheme keeps tonic from adding a TLS layer of its own.
        let channel = TonicEndpoint::from(endpoint.uri("http")?)
            .origin(endpoint.uri("https")?)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .user_agent(concat!("aesp-sdk/", env!("CARGO_PKG_VERSION")))
            .map_err(Error::internal)?
            .connect_with_connector(connector)
            .await
            .map_err(|e| unreachable(endpoint, "HTTP/2 could not be started").because(e))?;
        Ok(Self { channel, ending })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.ending.over.load(Ordering::Acquire)
    }

    /// Returns the error of a request that the connection did not survive.
    pub(crate) fn broken(&self) -> Error {
        match self.ending.refusal.get() {
            Some(refusal) => refused(refusal),
            None => Error::new(ErrorCode::TransportError, "the connection to the Host broke"),
        }
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ending, &other.ending)
    }
}

async fn handshake(endpoint: &Endpoint, tls: &Tls, ending: Arc<Ending>) -> Result<Socket, Error> {
    let connector = TlsConnector::from(tls.config()?);
    let tcp = TcpStream::connect(endpoint.address())
        .await
        .map_err(|e| unreachable(endpoint, &e.to_string()).because(e))?;
    tcp.set_nodelay(true).map_err(|e| unreachable(endpoint, "the connection broke").because(e))?;
    let stream = connector.connect(endpoint.server_name()?, tcp).await.map_err(|e| {
        debug!(%endpoint, error = %e, "tls handshake failed");
        match tls_error(&e) {
            Some(refusal) => refused(refusal),
            None => unreachable(endpoint, &e.to_string()).because(e),
        }
    })?;
    Ok(Socket { stream, ending })
}

fn unreachable(endpoint: &Endpoint, reason: &str) -> Error {
    Error::new(ErrorCode::TransportError, format!("{endpoint} can't be reached: {reason}"))
        .remedy("check that the node runs there and that its certificate is of the given authority")
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Tells a certificate that one side does not accept, which time does not cure, from other trouble.
fn refused(refusal: &rustls::Error) -> Error {
    use rustls::{AlertDescription as Alert, Error as Tls};
    let (code, remedy) = match refusal {
        Tls::InvalidCertificate(_) => {
            (ErrorCode::CertificateInvalid, "check the address, and that the authority given is the node's")
        }
        Tls::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::DecryptError
            | Alert::AccessDenied,
        ) => (ErrorCode::CertificateInvalid, "give a client certificate that the Host accepts"),
        _ => (ErrorCode::TransportError, "check that an AESP node listens there"),
    };
    Error::new(code, format!("TLS failed: {refusal}")).remedy(remedy)
}

/// The encrypted stream; remembers that it has ended.
#[derive(Debug)]
struct Socket {
    stream: TlsStream<TcpStream>,
    ending: Arc<Ending>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.ending.over.store(true, Ordering::Release);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, out);
        if let Poll::Ready(Err(error)) = &read
            && let Some(refusal) = tls_error(error)
        {
            self.ending.refusal.get_or_init(|| refusal.clone());
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
