use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use aesp_proto::{Clock, Entropy, ManualClock, Timestamp};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName, version::TLS13};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::StreamExt;

use super::super::{Acceptor, Connections, Live, Material, Metrics, PeerInfo, Protocol, Watch, pem};
use crate::{
    config,
    init::{Authority, Subject},
};

pub(super) const START: Timestamp = Timestamp(1_800_000_000_000);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
const DEADLINE: Duration = Duration::from_secs(20);

/// A listener whose accepted connections are held open, and its authority.
pub(super) struct Fixture {
    pub(super) folder: TempDir,
    pub(super) authority: Authority,
    pub(super) clock: Arc<ManualClock>,
    pub(super) address: SocketAddr,
    pub(super) refusals: Arc<Mutex<Vec<&'static str>>>,
    pub(super) metrics: Metrics,
    pub(super) connections: Connections,
    peers: mpsc::UnboundedReceiver<PeerInfo>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Fixture {
    pub(super) async fn start() -> Self {
        Self::with(100, Duration::from_secs(5)).await
    }

    pub(super) async fn with(limit: usize, handshake_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let authority = authority(folder.path(), 1);
        issue_server(&authority, folder.path(), "server");
        let files = config::Tls {
            certificate: folder.path().join("server.pem"),
            key: folder.path().join("server.key"),
            client_ca: folder.path().join("ca.pem"),
            crls: vec![folder.path().join("ca.crl")],
        };
        let time: Arc<dyn Clock> = clock.clone();
        let live = Live::new(Material::load(&files, &time).unwrap());
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let connections = Connections::new(metrics.clone());
        let refusals: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let seen = refusals.clone();
        let acceptor = Acceptor {
            protocol: Protocol::Grpc,
            live: live.clone(),
            connections: connections.clone(),
            clock: time.clone(),
            limit: Arc::new(Semaphore::new(limit)),
            handshake_timeout,
            metrics: metrics.clone(),
            refused: Arc::new(move |_: IpAddr, reason| seen.lock().unwrap().push(reason)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = acceptor.incoming(listener);
        let (told, peers) = mpsc::unbounded_channel();
        let serving = tokio::spawn(async move {
            while let Some(Ok(mut connection)) = incoming.next().await {
                told.send(connection.peer().clone()).unwrap();
                // Ends when either side closes.
                tokio::spawn(async move { drop(connection.read_u8().await) });
            }
        });
        let watch = Watch::new(files, time, live, connections.clone(), metrics.clone());
        let watching = tokio::spawn(watch.run());
        let tasks = vec![serving.abort_handle(), watching.abort_handle()];
        Self { folder, authority, clock, address, refusals, metrics, connections, peers, tasks }
    }

    /// Makes a client certificate of this authority for a Runtime.
    pub(super) fn client(&self, name: &str, life: Duration) -> Client {
        client(&self.authority, self.folder.path(), name, self.clock.now(), life)
    }

    pub(super) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Connects; with `client`'s certificate, if there is one.
    pub(super) async fn connect(
        &self,
        client: Option<&Client>,
    ) -> Result<TlsStream<TcpStream>, std::io::Error> {
        self.connect_as(client, "localhost").await
    }

    pub(super) async fn connect_as(
        &self,
        client: Option<&Client>,
        name: &str,
    ) -> Result<TlsStream<TcpStream>, std::io::Error> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(configure(&self.ca(), client)).connect(name, socket).await
    }

    /// Returns who the next accepted connection is from.
    pub(super) async fn accepted(&mut self) -> PeerInfo {
        tokio::time::timeout(DEADLINE, self.peers.recv()).await.expect("accepted in time").unwrap()
    }

    /// Connects, and returns the reason for which the Host refuses.
    pub(super) async fn refusal(&self, client: Option<&Client>) -> &'static str {
        let stream = self.connect(client).await;
        let refusals = self.refusals.clone();
        wait_until(|| !refusals.lock().unwrap().is_empty()).await;
        if let Ok(mut stream) = stream {
            assert_closed(&mut stream).await;
        }
        self.refusals.lock().unwrap().pop().unwrap()
    }
}

/// A client certificate on disk.
pub(super) struct Client {
    pub(super) certificate: PathBuf,
    key: PathBuf,
    pub(super) serial: String,
}

impl Client {
    pub(super) fn set_key(&mut self, key: PathBuf) {
        self.key = key;
    }
}

pub(super) fn authority(folder: &Path, seed: u64) -> Authority {
    Authority::create(folder, START, &Entropy::from_seed(seed)).unwrap()
}

pub(super) fn issue_server(authority: &Authority, folder: &Path, name: &str) {
    let subject = Subject::Server(vec!["localhost".into()]);
    authority.issue(&subject, name, folder, START, 30 * DAY).unwrap();
}

pub(super) fn client(
    authority: &Authority,
    folder: &Path,
    name: &str,
    now: Timestamp,
    life: Duration,
) -> Client {
    let subject = Subject::Runtime { id: name.into(), zone: Some("office".into()) };
    let issued = authority.issue(&subject, name, folder, now, life).unwrap();
    Client { certificate: issued.certificate, key: issued.key, serial: issued.serial }
}

fn configure(ca: &Path, client: Option<&Client>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(ca).unwrap() {
        roots.add(certificate).unwrap();
    }
    let clock = Arc::new(super::super::clock::TlsClock(Arc::new(ManualClock::new(START))));
    let builder = ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), clock)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = pem::certificates(&client.certificate).unwrap();
            builder.with_client_auth_cert(chain, pem::key(&client.key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Waits until the Host closes the connection.
pub(super) async fn assert_closed(stream: &mut TlsStream<TcpStream>) {
    let ended = tokio::time::timeout(DEADLINE, stream.read_u8()).await.expect("closed in time");
    assert!(ended.is_err(), "the Host sent data");
}

/// Asks each 10 ms until it holds.
pub(super) async fn wait_until(holds: impl Fn() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    tokio::time::timeout(DEADLINE, async {
        while !holds() {
            ticks.tick().await;
        }
    })
    .await
    .expect("holds in time");
}

/// Replaces `to` by `from` in one step, as certificate managers do.
pub(super) fn swap(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}
