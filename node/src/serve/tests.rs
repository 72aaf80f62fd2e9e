use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aesp_proto::Entropy;
use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName, version::TLS13};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{service::Routes, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::{
    Component, Drain,
    init::{Authority, Subject},
};

const DEADLINE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

type Steps = Arc<Mutex<Vec<&'static str>>>;

/// Writes down what it is asked for, in order.
struct Recording(Steps);

#[async_trait]
impl Drain for Recording {
    async fn hand_over(&self) {
        self.0.lock().unwrap().push("shards handed over");
    }

    async fn leave(&self) {
        self.0.lock().unwrap().push("cluster left");
    }

    async fn send_runtimes_away(&self, _grace: Duration) {
        self.0.lock().unwrap().push("runtimes sent away");
    }

    async fn finish_calls(&self) {
        self.0.lock().unwrap().push("calls finished");
    }

    async fn close(&self) {
        self.0.lock().unwrap().push("store closed");
    }
}

struct Running {
    folder: tempfile::TempDir,
    addresses: Addresses,
    ready: Arc<AtomicBool>,
    steps: Steps,
    stop: CancellationToken,
    /// Takes the node's place in the cluster away.
    losing: CancellationToken,
    /// Has its actors give up.
    failing: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemClock.now();
    let authority = Authority::create(folder.path(), now, &Entropy::from_seed(3)).unwrap();
    let subject = Subject::Server(vec!["localhost".into()]);
    authority.issue(&subject, "server", folder.path(), now, DAY).unwrap();
    let mut config = Config::default();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.listen.grpc, config.listen.https, config.listen.metrics) = (free, free, free);
    config.tls.certificate = folder.path().join("server.pem");
    config.tls.key = folder.path().join("server.key");
    config.tls.client_ca = folder.path().join("ca.pem");
    let ready = Arc::new(AtomicBool::new(true));
    let steps = Steps::default();
    let probe = ready.clone();
    let losing = CancellationToken::new();
    let lost = losing.clone();
    let failing = CancellationToken::new();
    let failed = failing.clone();
    let host = Host {
        https: axum::Router::new(),
        routes: Routes::default(),
        jwks: Arc::new(|| r#"{"keys":[]}"#.into()),
        ready: Arc::new(move || {
            let state = if probe.load(Ordering::SeqCst) { Ok(()) } else { Err("is away".into()) };
            let audit = Component { name: "audit", state: Ok(()), needed: true };
            vec![Component { name: "store", state, needed: true }, audit]
        }),
        registry: prometheus::Registry::new(),
        peers: None,
        lost: Box::pin(async move { lost.cancelled().await }),
        gave_up: Box::pin(async move {
            failed.cancelled().await;
            "actor tenant crashed".into()
        }),
        drain: Box::new(Recording(steps.clone())),
        refused: Arc::new(|_, _| {}),
    };
    let node = Node::bind(config, host).await.unwrap();
    let addresses = node.addresses().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(node.run(stop.clone()));
    Running { folder, addresses, ready, steps, stop, losing, failing, task }
}

async fn tls(ca: &Path, address: SocketAddr, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(ca)?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).expect("is PEM");
    roots.add(block.contents.into()).expect("is an authority");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("provider has it")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").expect("is a name");
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn probe(running: &Running, path: &str) -> String {
    get(TcpStream::connect(running.addresses.metrics).await.unwrap(), path).await
}

async fn health(running: &Running) -> HealthClient<tonic::transport::Channel> {
    let (ca, address) = (running.folder.path().join("ca.pem"), running.addresses.grpc);
    let connector = tower::service_fn(move |_| {
        let ca = ca.clone();
        async move { tls(&ca, address, b"h2").await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
    HealthClient::new(channel)
}

async fn status(client: &mut HealthClient<tonic::transport::Channel>) -> i32 {
    status_of(client, "aesp.v1.AgentService").await
}

async fn status_of(client: &mut HealthClient<tonic::transport::Channel>, service: &str) -> i32 {
    let service = service.to_owned();
    client.check(HealthCheckRequest { service }).await.unwrap().into_inner().status
}

#[tokio::test]
async fn every_listener_answers_what_it_is_for() {
    let running = start().await;
    let https =
        tls(&running.folder.path().join("ca.pem"), running.addresses.https, b"http/1.1").await.unwrap();
    let keys = get(https, "/.well-known/jwks.json").await;
    assert!(keys.starts_with("HTTP/1.1 200") && keys.ends_with(r#"{"keys":[]}"#), "{keys}");
    assert!(keys.contains("application/jwk-set+json"), "{keys}");
    let metrics = probe(&running, "/metrics").await;
    assert!(
        metrics.contains("aesp_tls_handshakes_total{listener=\"https\",outcome=\"accepted\"} 1"),
        "{metrics}"
    );
    assert!(probe(&running, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(probe(&running, "/readyz").await.starts_with("HTTP/1.1 200"));
    running.ready.store(false, Ordering::SeqCst);
    let answer = probe(&running, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\nstore: is away\n"), "{answer}");
    let answer = probe(&running, "/readyz?verbose").await;
    assert!(answer.contains("[-] store: is away\n[+] audit\n"), "{answer}");

    let mut client = health(&running).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let becomes = async |client: &mut _, ticks: &mut tokio::time::Interval, wanted: i32| {
        let followed = async {
            while status(client).await != wanted {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(DEADLINE, followed).await.expect("health follows readiness");
    };
    becomes(&mut client, &mut ticks, 2).await;
    // Each component by its name.
    assert_eq!(status_of(&mut client, "aesp.store").await, 2);
    assert_eq!(status_of(&mut client, "aesp.audit").await, 1);
    let metrics = probe(&running, "/metrics").await;
    assert!(metrics.contains("aesp_component_ready{component=\"store\"} 0"), "{metrics}");
    running.ready.store(true, Ordering::SeqCst);
    becomes(&mut client, &mut ticks, 1).await;
    running.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_goes_in_order_and_ends_open_connections() {
    let running = start().await;
    let mut client = health(&running).await;
    // A stream that never ends by itself.
    let service = String::new();
    let mut open = client.watch(HealthCheckRequest { service }).await.unwrap().into_inner();
    assert!(open.message().await.unwrap().is_some());
    running.stop.cancel();
    tokio::time::timeout(DEADLINE, running.task).await.expect("bounded").unwrap().unwrap();
    assert_eq!(
        *running.steps.lock().unwrap(),
        ["shards handed over", "runtimes sent away", "calls finished", "cluster left", "store closed"]
    );
    let last =
        tokio::time::timeout(DEADLINE, async { while let Ok(Some(_)) = open.message().await {} }).await;
    assert!(last.is_ok(), "the stream was left open");
    assert!(TcpStream::connect(running.addresses.grpc).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_taken_address_is_named_with_its_key() {
    let running = start().await;
    let mut config = Config::default();
    config.listen.grpc = running.addresses.grpc;
    let error = listen_on("listen.grpc", config.listen.grpc).await.unwrap_err();
    assert!(format!("{error:#}").contains("(listen.grpc)"), "{error:#}");
    running.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_that_lost_its_place_ends_at_once_with_an_error() {
    let running = start().await;
    let client = health(&running).await;
    running.losing.cancel();
    let ended = tokio::time::timeout(DEADLINE, running.task).await.expect("bounded").unwrap();
    assert!(ended.unwrap_err().to_string().contains("declared dead"), "it does not say why");
    assert_eq!(*running.steps.lock().unwrap(), ["store closed"], "it finished what does not count");
    drop(client);
}

#[tokio::test]
async fn a_node_whose_actors_gave_up_hands_over_and_ends_with_an_error() {
    let running = start().await;
    running.failing.cancel();
    let ended = tokio::time::timeout(DEADLINE, running.task).await.expect("bounded").unwrap();
    assert!(ended.unwrap_err().to_string().contains("actor tenant crashed"), "it does not say why");
    assert_eq!(running.steps.lock().unwrap().first(), Some(&"shards handed over"));
}
