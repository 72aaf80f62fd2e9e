//! On Azurite, Microsoft's own emulator of Azure Blob Storage, which `scripts/install-peers` installs.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use aesp_backup::{Credentials, Target};
use object_store::{
    azure::{AzureAccessKey, AzureAuthorizer, AzureCredential},
    client::{HttpClient, HttpRequest},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{everything, fixture::Fixture};

const STARTING_TIME: Duration = Duration::from_secs(60);
const ACCOUNT: &str = "acme";
/// Base 64, as keys of accounts are.
const ACCOUNT_KEY: &str = "YWVzcC1iYWNrdXAtdGVzdC1rZXktb2YtYW4tYWNjb3VudA==";
const OTHER_KEY: &str = "bm90IHRoZSBrZXkgb2YgdGhpcyBhY2NvdW50IGF0IGFsbC4=";
const CONTAINER: &str = "backups";

/// A server of the test's own.
struct Azurite {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Azurite {
    /// Starts one and makes a container, or says why it can't.
    async fn start() -> Option<Self> {
        let program = program()?;
        let data = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(data.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--location"]);
        command.arg(data.path()).args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"]);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{ACCOUNT_KEY}"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let server = Self { process: command.spawn().unwrap(), port, _folder: data };
        // Whichever test comes first.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let client = HttpClient::new(reqwest::Client::new());
        let deadline = Instant::now() + STARTING_TIME;
        loop {
            match client.execute(server.new_container()).await {
                Ok(answer) if answer.status().is_success() => return Some(server),
                answer => assert!(Instant::now() < deadline, "Azurite does not start: {answer:?}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    fn new_container(&self) -> HttpRequest {
        let mut request = HttpRequest::new(Vec::new().into());
        *request.method_mut() = "PUT".parse().unwrap();
        *request.uri_mut() = format!("{}/{CONTAINER}?restype=container", self.endpoint()).parse().unwrap();
        request.headers_mut().insert("content-length", "0".parse().unwrap());
        let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(ACCOUNT_KEY).unwrap());
        AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request).unwrap();
        request
    }

    fn target(&self, key: &str) -> Target {
        let url = format!("az://{ACCOUNT}/{CONTAINER}/a/b?endpoint={}", self.endpoint());
        let secret = Some(key.to_owned().into());
        Target::parse(&url, Credentials { secret, ..Credentials::default() }).unwrap()
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Finds the program; without it, the test is skipped on a developer's machine and fails in CI.
fn program() -> Option<PathBuf> {
    let folder = std::env::var_os("AESP_AZURITE_BIN")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/aesp/azurite/bin")));
    let program = folder.map(|folder| folder.join("azurite-blob")).filter(|program| program.exists());
    if program.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: Azurite is not installed");
        println!("SKIPPED: Azurite is not installed; run scripts/install-peers");
    }
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_on_azure_gives_everything_back() {
    let Some(server) = Azurite::start().await else { return };
    let fixture = Fixture::new().await;
    everything::comes_back(&fixture, &server.target(ACCOUNT_KEY)).await;
    everything::is_refused(&fixture, &server.target(OTHER_KEY)).await;
}
