use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, atomic::AtomicU32},
    task::{Context, Poll},
    time::Duration,
};

use aesp_proto::v1::{
    agent_service_server::AgentServiceServer,
    enterprise_authentication_service_server::EnterpriseAuthenticationServiceServer,
    runtime_service_server::RuntimeServiceServer,
};
use aesp_sdk::Endpoint;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, transport::server::Connected};

use super::{Pki, RuntimePeer, soon};

/// What the stub has heard, and what it shall answer.
#[derive(Default)]
pub struct Script {
    /// Refusals to give before an RPC succeeds, by its name.
    pub refusals: Mutex<HashMap<&'static str, VecDeque<Status>>>,
    /// Every request: the RPC's name, its bearer token, and what identifies it.
    pub heard: Mutex<Vec<(&'static str, String, String)>>,
    /// The access tokens that are valid now.
    pub valid_tokens: Mutex<Vec<String>>,
    pub logins: AtomicU32,
    pub refreshes: AtomicU32,
    pub token_life_seconds: AtomicU32,
    /// The arguments of the calls that "ran", by invocation id.
    pub ran: Mutex<HashMap<String, Value>>,
    pub tools: Mutex<Vec<aesp_proto::v1::ToolSummary>>,
}

impl Script {
    /// Refuses the next requests of an RPC.
    pub fn refuse(&self, rpc: &'static str, statuses: impl IntoIterator<Item = Status>) {
        self.refusals.lock().unwrap().entry(rpc).or_default().extend(statuses);
    }

    /// Notes a request, and returns the refusal that was prepared for it.
    pub fn hear<T>(&self, rpc: &'static str, request: &tonic::Request<T>, key: &str) -> Result<(), Status> {
        let token = request.metadata().get("authorization").map_or("", |t| t.to_str().unwrap());
        self.heard.lock().unwrap().push((rpc, token.to_owned(), key.to_owned()));
        match self.refusals.lock().unwrap().get_mut(rpc).and_then(VecDeque::pop_front) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    pub fn heard(&self, rpc: &str) -> Vec<(String, String)> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(name, ..)| *name == rpc).map(|(_, t, k)| (t.clone(), k.clone())).collect()
    }
}

/// One running stub. Dropping it breaks its connections.
pub struct Stub {
    pub address: SocketAddr,
    pub script: Arc<Script>,
    runtimes: mpsc::UnboundedReceiver<RuntimePeer>,
    alive: CancellationToken,
}

impl Stub {
    pub async fn start(pki: &Pki) -> Self {
        Self::start_at(pki, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(pki: &Pki, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Script::default());
        script.token_life_seconds.store(3600, std::sync::atomic::Ordering::Relaxed);
        let alive = CancellationToken::new();
        let (connected, incoming) = mpsc::channel(16);
        tokio::spawn(accept(listener, TlsAcceptor::from(pki.server()), connected, alive.clone()));
        let (runtimes_sender, runtimes) = mpsc::unbounded_channel();
        let router = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .add_service(AgentServiceServer::new(super::agent::Agent(Arc::clone(&script))))
            .add_service(EnterpriseAuthenticationServiceServer::new(super::authentication::Authentication(
                Arc::clone(&script),
            )))
            .add_service(RuntimeServiceServer::new(super::runtime::Runtimes(runtimes_sender)));
        tokio::spawn(router.serve_with_incoming(ReceiverStream::new(incoming)));
        Self { address, script, runtimes, alive }
    }

    pub fn endpoint(&self) -> Endpoint {
        format!("https://localhost:{}", self.address.port()).parse().unwrap()
    }

    /// Returns the next Runtime that connects.
    pub async fn runtime(&mut self) -> RuntimePeer {
        soon("a Runtime connects", self.runtimes.recv()).await.unwrap()
    }

    /// Breaks every connection and listens no more.
    pub fn kill(&self) {
        self.alive.cancel();
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connected: mpsc::Sender<io::Result<Io>>,
    alive: CancellationToken,
) {
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = alive.cancelled() => return,
        };
        socket.set_nodelay(true).unwrap();
        let (acceptor, connected, alive) = (acceptor.clone(), connected.clone(), alive.clone());
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(socket).await {
                let io = Io { stream, killed: Box::pin(alive.cancelled_owned()) };
                drop(connected.send(Ok(io)).await);
            }
        });
    }
}

struct Io {
    stream: TlsStream<TcpStream>,
    killed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl AsyncWrite for Io {
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
