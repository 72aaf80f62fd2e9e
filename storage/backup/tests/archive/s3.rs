//! On a real S3 server, SeaweedFS, which `scripts/install-peers` installs.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use aesp_backup::{Archive, Credentials, Error, Point, Target};
use object_store::{
    aws::{AwsAuthorizer, AwsCredential},
    client::{HttpClient, HttpRequest, HttpResponse},
};
use tempfile::TempDir;

use crate::{
    everything,
    fixture::{Fixture, LIMIT_BYTES, back_up, cluster, restored, rows},
};

/// A server of the test's own.
struct Seaweed {
    process: Child,
    port: u16,
    _folder: TempDir,
}

const ID: &str = "ak";
const SECRET: &str = "sksksksk";
const BUCKET: &str = "backups";
const STARTING_TIME: Duration = Duration::from_secs(60);

impl Seaweed {
    /// Starts one and makes a bucket with an object lock, or says why it can't.
    async fn start() -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let identities = folder.path().join("s3.json");
        let credentials = format!(r#"[{{"accessKey":"{ID}","secretKey":"{SECRET}"}}]"#);
        let actions = r#"["Admin","Read","Write","List","Tagging"]"#;
        let identity = format!(r#"{{"name":"t","credentials":{credentials},"actions":{actions}}}"#);
        std::fs::write(&identities, format!(r#"{{"identities":[{identity}]}}"#)).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let ports: [u16; 8] = free_ports();
        let mut command = Command::new(program);
        command.arg("server").arg("-ip=127.0.0.1").arg("-ip.bind=127.0.0.1").arg("-filer").arg("-s3");
        command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", identities.display()));
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=20", "-master.telemetry=false"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        let names = ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc"];
        let others = ["volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"];
        for (name, port) in names.iter().chain(&others).zip(ports) {
            command.arg(format!("-{name}={port}"));
        }
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let process = command.spawn().unwrap();
        let server = Self { process, port: ports[0], _folder: folder };
        let deadline = tokio::time::Instant::now() + STARTING_TIME;
        let lock = [("x-amz-bucket-object-lock-enabled", "true")];
        loop {
            match server.request("PUT", &format!("/{BUCKET}"), &lock).await {
                Some(answer) if answer.status().is_success() => return Some(server),
                answer => {
                    assert!(tokio::time::Instant::now() < deadline, "SeaweedFS does not start: {answer:?}")
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Sends a signed request of the test's own.
    async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<HttpResponse> {
        // Whichever test comes first.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let mut request = HttpRequest::new(Vec::new().into());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let credential = AwsCredential { key_id: ID.into(), secret_key: SECRET.into(), token: None };
        AwsAuthorizer::new(&credential, "s3", "us-east-1").try_authorize(&mut request, None).unwrap();
        HttpClient::new(reqwest::Client::new()).execute(request).await.ok()
    }

    fn target(&self, prefix: &str, secret: &str) -> Target {
        let url = format!("s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{}", self.port);
        let secret = Some(secret.to_owned().into());
        Target::parse(&url, Credentials { id: Some(ID.into()), secret, ..Credentials::default() }).unwrap()
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        // It does not end on anything milder.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Finds the program; without it, the test is skipped on a developer's machine and fails in CI.
fn program() -> Option<PathBuf> {
    let folder = std::env::var_os("AESP_SEAWEED_BIN")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/aesp/seaweed/bin")));
    let program = folder.map(|folder| folder.join("weed")).filter(|program| program.exists());
    if program.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: SeaweedFS is not installed");
        println!("SKIPPED: SeaweedFS is not installed; run scripts/install-peers");
    }
    program
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_on_s3_gives_everything_back() {
    let Some(server) = Seaweed::start().await else { return };
    let fixture = Fixture::new().await;
    everything::comes_back(&fixture, &server.target("a/b", SECRET)).await;
    everything::is_refused(&fixture, &server.target("a/b", "not the secret")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_objects_say_until_when() {
    let Some(server) = Seaweed::start().await else { return };
    let fixture = Fixture::new().await;
    let target = server.target("locked", SECRET).with_object_lock(3).unwrap();
    let archive = Archive::open(&target, &cluster(), fixture.key()).await.unwrap();
    fixture.set("a", b"1").await;
    back_up(&archive.claim(&fixture.engine, LIMIT_BYTES).await.unwrap()).await;
    let object = format!("/{BUCKET}/locked/keys/00000001.json");
    let head = server.request("HEAD", &object, &[]).await.unwrap();
    let header = |name: &str| head.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("x-amz-object-lock-mode"), "COMPLIANCE");
    let version = header("x-amz-version-id");
    let gone = server.request("DELETE", &format!("{object}?versionId={version}"), &[]).await.unwrap();
    assert!(gone.status().is_client_error(), "a locked object was deleted: {}", gone.status());
    assert_eq!(restored(&archive, Point::Latest).await.unwrap().0, rows(&fixture.engine).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_is_away_or_silent_is_unavailable() {
    let fixture = Fixture::new().await;
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let [away] = free_ports();
    for port in [silent.local_addr().unwrap().port(), away] {
        let url = format!("s3://b?endpoint=http://127.0.0.1:{port}");
        let secret = Some("secret".to_owned().into());
        let credentials = Credentials { id: Some("id".into()), secret, ..Credentials::default() };
        let target = Target::parse(&url, credentials).unwrap().with_patience(Duration::from_millis(300));
        let opened = Archive::open(&target, &cluster(), fixture.key()).await;
        let Err(error @ Error::Unavailable(_)) = opened else { panic!("{opened:?}") };
        assert!(error.is_retryable() && !error.to_string().contains("secret"), "{error}");
    }
}
