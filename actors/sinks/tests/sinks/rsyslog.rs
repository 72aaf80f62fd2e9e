//! Against rsyslog, which asks for client certificates.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use aesp_sinks::{Config, Kind};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_rustls::TlsAcceptor;

use crate::{
    fixture::{TENANT, World, sink, until, until_cause},
    peers::{Peer, free_ports, program},
};

/// An authority of the test's own, with files.
struct Pki {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Pki {
    fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.join("ca.crt"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder: folder.to_owned() }
    }

    fn issue(&self, name: &str) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

struct Rsyslog {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    pki: Pki,
}

impl Rsyslog {
    fn new(world: &World) -> Option<Self> {
        let program = program("AESP_RSYSLOG_BIN", "rsyslog", "rsyslogd")?;
        let folder = world.folder.path().join("rsyslog");
        let pki = Pki::new(&folder.join("pki"));
        pki.issue("srv");
        pki.issue("client");
        let [port] = free_ports();
        Some(Self { program, folder, port, pki })
    }

    fn start(&self) -> Peer {
        let file = |name: &str| self.pki.path(name).display().to_string();
        let folder = self.folder.display();
        let (ca, certificate, key) = (file("ca.crt"), file("srv.crt"), file("srv.key"));
        let field = |name: &str, property: &str| {
            format!(r#" property(outname="{name}" name="{property}" format="jsonf")"#)
        };
        let fields = [
            field("pri", "pri"),
            field("host", "hostname"),
            field("app", "app-name"),
            field("msgid", "msgid"),
            field("sd", "structured-data"),
            field("msg", "msg"),
            field("version", "protocol-version"),
        ];
        let template =
            format!(r#"template(name="j" type="list" option.jsonf="on") {{ {} }}"#, fields.concat());
        let tls = format!(
            r#"DefaultNetstreamDriverCAFile="{ca}" DefaultNetstreamDriverCertFile="{certificate}" DefaultNetstreamDriverKeyFile="{key}""#
        );
        let driver =
            r#"StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid""#;
        let config = format!(
            r#"global(workDirectory="{folder}" maxMessageSize="64k" {tls})
module(load="imtcp" {driver})
{template}
input(type="imtcp" address="127.0.0.1" port="{}" ruleset="r")
ruleset(name="r") {{ action(type="omfile" file="{folder}/out.jsonl" template="j" asyncWriting="off") }}
"#,
            self.port
        );
        let path = self.folder.join("rsyslog.conf");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("-n").arg("-f").arg(path).arg("-i").arg(self.folder.join("pid"));
        // It refuses to start beside the file of one that was killed.
        fs::remove_file(self.folder.join("pid")).ok();
        Peer::start(&mut command, &self.folder.join("log"))
    }

    fn config(&self) -> Config {
        let mut config = sink(Kind::Syslog, format!("tls://localhost:{}", self.port));
        config.ca = Some(self.pki.path("ca.crt"));
        config.certificate = Some(self.pki.path("client.crt"));
        config.certificate_key = Some(self.pki.path("client.key"));
        config
    }

    fn received(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join("out.jsonl")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn ids(&self) -> Vec<String> {
        let id = |line: &Value| {
            let data = line["sd"].as_str().unwrap();
            data.split_once("event_id=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0.to_owned()
        };
        self.received().iter().map(id).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_a_certificate_gets_every_event_in_order() {
    let world = World::new().await;
    let Some(rsyslog) = Rsyslog::new(&world) else { return };
    let _peer = rsyslog.start();
    let running = world.start(&[rsyslog.config()], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 1_200).await;
    until("all have come", async || rsyslog.ids().len() >= 1_200).await;
    until_cause(&running, "").await;
    let mut ids = rsyslog.ids();
    // It may have begun before the receiver listened: then the failure was recorded, too.
    ids.retain(|id| sent.contains(id));
    assert_eq!(ids, sent);
    let line = &rsyslog.received()[0];
    let text = |name: &str| line[name].as_str().unwrap().to_owned();
    assert_eq!(
        (text("pri"), text("host"), text("app"), text("msgid"), text("version")),
        ("110".into(), "node-1".into(), "aesp".into(), "TOOL_INVOCATION".into(), "1".into())
    );
    let data = text("sd");
    assert!(data.starts_with(&format!("[aesp@32473 event_id=\"{}\" ", sent[0])), "{data}");
    assert!(data.contains(r#"reason="a \"quoted\" reason\]\\u000aof two lines""#), "{data}");
    assert!(text("msg").contains("tool.0 SUCCESS"), "{}", text("msg"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_or_with_another_authority_nothing_is_sent() {
    let world = World::new().await;
    let Some(rsyslog) = Rsyslog::new(&world) else { return };
    let _peer = rsyslog.start();
    until("it listens", async || tokio::net::TcpStream::connect(("127.0.0.1", rsyslog.port)).await.is_ok())
        .await;
    let mut config = rsyslog.config();
    (config.certificate, config.certificate_key) = (None, None);
    let running = world.start(&[config], &[TENANT]).await;
    world.grow(&running, TENANT, 3).await;
    until_cause(&running, "unreachable").await;
    drop(running);
    let other = Pki::new(&world.folder.path().join("other"));
    let mut config = rsyslog.config();
    config.ca = Some(other.path("ca.crt"));
    let running = world.start(&[config], &[TENANT]).await;
    let why = until_cause(&running, "unreachable").await;
    assert!(why.contains("invalid peer certificate"), "{why}");
    assert!(rsyslog.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_restarted_again_and_again_loses_nothing() {
    let world = World::new().await;
    let Some(rsyslog) = Rsyslog::new(&world) else { return };
    let mut config = rsyslog.config();
    config.batch_events = 20;
    let running = world.start(&[config], &[TENANT]).await;
    let mut sent = BTreeSet::new();
    for _ in 0..3 {
        let before = rsyslog.ids().len();
        let peer = rsyslog.start();
        sent.extend(world.grow(&running, TENANT, 400).await);
        until("some have come", async || rsyslog.ids().len() > before).await;
        peer.terminate();
    }
    let _peer = rsyslog.start();
    until("all have come", async || sent.is_subset(&rsyslog.ids().into_iter().collect())).await;
}

/// A receiver that reads only so much of its first connection and then drops it, and everything of the others.
async fn forgetful(pki: &Pki, first: usize) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let pem = |name: &str| fs::read(pki.path(name)).unwrap();
    let (chain, key) = (pem("srv.crt"), pem("srv.key"));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().unwrap();
    let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&key).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Arc::<Mutex<Vec<u8>>>::default();
    let held = Arc::clone(&received);
    tokio::spawn(async move {
        let mut limit = Some(first);
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut tls = acceptor.accept(tcp).await.unwrap();
            match limit.take() {
                Some(bytes) => {
                    tls.read_exact(&mut vec![0; bytes]).await.unwrap();
                    // So that more has come than was read.
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                None => {
                    let mut all = Vec::new();
                    tls.read_to_end(&mut all).await.unwrap();
                    held.lock().unwrap().extend(all);
                }
            }
        }
    });
    (port, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_has_not_read_is_not_settled() {
    let world = World::new().await;
    let pki = Pki::new(&world.folder.path().join("pki"));
    pki.issue("srv");
    let (port, received) = forgetful(&pki, 10).await;
    let mut config = sink(Kind::Syslog, format!("tls://localhost:{port}"));
    config.ca = Some(pki.path("ca.crt"));
    config.batch_ms = 500;
    // More than the buffers of a connection hold unread.
    let sent = world.log(TENANT, &["tool.a"; 400]).await;
    let running = world.start(&[config], &[TENANT]).await;
    let why = until_cause(&running, "unreachable").await;
    assert!(why.contains("before the receiver had read everything"), "{why}");
    assert_eq!(running.sinks.own_report("soc").unwrap().taken, 0);
    until_cause(&running, "").await;
    let text = String::from_utf8(received.lock().unwrap().clone()).unwrap();
    for id in sent {
        assert!(text.contains(&id.to_string()), "{id} is lost");
    }
    let (length, rest) = text.split_once(' ').unwrap();
    let length: usize = length.parse().unwrap();
    assert!(rest[..length].starts_with("<110>1 "), "{rest:.100}");
    assert!(
        rest[length..].split(' ').next().unwrap().parse::<usize>().is_ok(),
        "octet counts come one after another"
    );
}
