use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aesp_proto::{Clock, Entropy, Error, ErrorCode, Incarnation, SystemClock};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use prometheus::Registry;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
    time_provider::DefaultTimeProvider,
};
use tokio::{net::TcpListener, sync::watch};

use super::super::{Context, LiveTls, Metrics, Options, Peer, PeerService, Peers, Tls, Topic};
use crate::{ObserveRefusals, Refusal};

pub(super) const DEADLINE: Duration = Duration::from_secs(20);
pub(super) const DOMAIN: &str = "aesp.test";

/// An authority of the cluster.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    serial: AtomicU64,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate, serial: AtomicU64::new(1) }
    }

    /// Makes a certificate for a URI; returns its serial number, too.
    pub(super) fn issue(
        &self,
        uri: &str,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>, u64) {
        let serial = self.serial.fetch_add(1, Ordering::SeqCst);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = usages.to_vec();
        params.serial_number = Some(SerialNumber::from(serial));
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (certificate, PrivateKeyDer::Pkcs8(key.serialize_der().into()), serial)
    }

    /// Makes the material of a node with this certificate, which trusts this authority but for the revoked numbers.
    pub(super) fn tls(
        &self,
        (certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>),
        revoked: &[u64],
    ) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let (now, day) = (time::OffsetDateTime::now_utc(), time::Duration::DAY);
        let gone = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - day,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - day,
            next_update: now + day,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(gone).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap().der().clone();
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(aws_lc_rs::default_provider()),
        )
        .with_crls([list])
        .allow_unauthenticated()
        .build()
        .unwrap();
        Tls::new(vec![certificate], key, verifier, Arc::new(DefaultTimeProvider)).unwrap()
    }
}

pub(super) const BOTH: [ExtendedKeyUsagePurpose; 2] =
    [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

/// Writes down refusals.
#[derive(Default)]
pub(super) struct Refused(pub(super) Mutex<Vec<Refusal>>);

impl ObserveRefusals for Refused {
    fn refused(&self, refusal: Refusal) {
        self.0.lock().unwrap().push(refusal);
    }
}

/// Does what requests say, and writes down what it saw.
#[derive(Default)]
pub(super) struct Scripted {
    pub(super) seen: Mutex<Vec<Bytes>>,
    pub(super) told: Mutex<Vec<Bytes>>,
    pub(super) events: Mutex<Vec<(Incarnation, bool)>>,
    pub(super) running: Arc<AtomicUsize>,
    /// Bytes of parts that were produced.
    pub(super) produced: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PeerService for Scripted {
    fn request(&self, _: Incarnation, _: Topic, payload: Bytes) -> BoxStream<'static, Result<Bytes, Error>> {
        self.seen.lock().unwrap().push(payload.clone());
        self.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(self.running.clone());
        let produced = self.produced.clone();
        let text = String::from_utf8_lossy(&payload).into_owned();
        let parts = match text.split_once(' ').unwrap_or((&text, "")) {
            ("hang", _) => stream::pending().boxed(),
            ("refuse", _) => stream::iter([Err(Error::new(ErrorCode::QuotaExceeded, "no"))]).boxed(),
            ("panic", _) => stream::poll_fn(|_| panic!("asked to")).boxed(),
            ("parts", rest) => {
                let (count, size) = rest.split_once(' ').unwrap();
                let (count, size): (usize, usize) = (count.parse().unwrap(), size.parse().unwrap());
                let part = move |n: usize| {
                    produced.fetch_add(size, Ordering::SeqCst);
                    Ok(Bytes::from(vec![n as u8; size]))
                };
                stream::iter(0..count).map(part).boxed()
            }
            _ => stream::iter([Ok(payload)]).boxed(),
        };
        parts
            .map(move |part| {
                let _running = &running;
                part
            })
            .boxed()
    }

    fn told(&self, _: Incarnation, _: Topic, payload: Bytes) {
        self.told.lock().unwrap().push(payload);
    }

    fn up(&self, peer: Incarnation) {
        self.events.lock().unwrap().push((peer, true));
    }

    fn down(&self, peer: Incarnation) {
        self.events.lock().unwrap().push((peer, false));
    }
}

/// One node of a test.
pub(super) struct Node {
    pub(super) peers: Peers,
    pub(super) service: Arc<Scripted>,
    pub(super) refused: Arc<Refused>,
    pub(super) registry: Registry,
    pub(super) tls: LiveTls,
    pub(super) at: SocketAddr,
    pub(super) serial: u64,
    pub(super) nodes: watch::Sender<Arc<[Peer]>>,
}

pub(super) fn incarnation(number: u64) -> Incarnation {
    Incarnation(number)
}

impl Node {
    pub(super) async fn start(authority: &Authority, number: u64) -> Self {
        let uri = format!("spiffe://{DOMAIN}/node/n{number}");
        Self::start_as(authority, &uri, Options::new(Incarnation(number), "c1", DOMAIN)).await
    }

    pub(super) async fn start_as(authority: &Authority, uri: &str, options: Options) -> Self {
        Self::start_with(authority, uri, options, Arc::new(SystemClock)).await
    }

    pub(super) async fn start_with(
        authority: &Authority,
        uri: &str,
        mut options: Options,
        clock: Arc<dyn Clock>,
    ) -> Self {
        if options.birth.is_empty() {
            options.birth = format!("birth of {}", options.own);
        }
        let (certificate, key, serial) = authority.issue(uri, &BOTH);
        let tls = LiveTls::new(authority.tls((certificate, key), &[]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let registry = Registry::new();
        let refused = Arc::new(Refused::default());
        let context = Context {
            clock,
            entropy: Entropy::from_seed(options.own.0),
            metrics: Metrics::register(&registry).unwrap(),
            refused: refused.clone(),
        };
        let service = Arc::new(Scripted::default());
        let (nodes, known) = watch::channel(Arc::from([]));
        let peers = Peers::start(context, options, tls.clone(), known, service.clone());
        let serving = peers.clone();
        tokio::spawn(async move { serving.serve(listener).await.unwrap() });
        Self { peers, service, refused, registry, tls, at, serial, nodes }
    }

    pub(super) fn own(&self) -> Incarnation {
        self.peers.0.options.own
    }

    pub(super) fn peer(&self) -> Peer {
        Peer {
            incarnation: self.own(),
            name: format!("n{}", self.own()),
            endpoint: self.at.to_string(),
            birth: self.peers.0.options.birth.clone(),
        }
    }

    /// Waits until links are open to exactly these.
    pub(super) async fn connects_to(&self, wanted: &[u64]) {
        let wanted: Vec<_> = wanted.iter().map(|number| Incarnation(*number)).collect();
        let mut connected = self.peers.connected();
        let reached = connected.wait_for(|connected| connected[..] == wanted[..]);
        let seen = tokio::time::timeout(DEADLINE, reached).await.map(|seen| seen.unwrap().clone());
        assert!(
            seen.is_ok(),
            "{} is connected to {:?}, not to {wanted:?}",
            self.own(),
            self.peers.connected().borrow()
        );
    }

    /// Waits until a refusal with this reason was told.
    pub(super) async fn refuses(&self, reason: &str) {
        eventually(reason, || self.refused.0.lock().unwrap().iter().any(|refusal| refusal.reason == reason))
            .await;
        assert!(self.metrics()["aesp_peer_refused_total"] > 0.0);
    }

    /// Returns the sum of each metric over its labels.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let sum = |family: &prometheus::proto::MetricFamily| {
            family
                .get_metric()
                .iter()
                .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
                .sum()
        };
        self.registry.gather().iter().map(|family| (family.name().to_owned(), sum(family))).collect()
    }
}

/// Starts nodes 1 to `count` that know each other, and waits for their links.
pub(super) async fn cluster(authority: &Authority, count: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    for number in 1..=count {
        nodes.push(Node::start(authority, number).await);
    }
    introduce(&nodes.iter().collect::<Vec<_>>());
    for node in &nodes {
        let others: Vec<_> = (1..=count).filter(|number| *number != node.own().0).collect();
        node.connects_to(&others).await;
    }
    nodes
}

/// Lets nodes know each other.
pub(super) fn introduce(nodes: &[&Node]) {
    let known: Arc<[Peer]> = nodes.iter().map(|node| node.peer()).collect();
    for node in nodes {
        node.nodes.send_replace(known.clone());
    }
}

/// Waits until something is so.
pub(super) async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let waiting = async {
        while !is() {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "not within {DEADLINE:?}: {what}");
}
