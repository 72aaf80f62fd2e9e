use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use aesp_sdk::{Client, Credentials, Endpoint, Tls};
use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{Process, aesp_binary, soon};

/// How a [`Host`] is to be started.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// Settings beside those of `aesp init`, as `SECTION.KEY=VALUE`.
    pub set: Vec<String>,
}

/// A real Host: `aesp init` in a temporary folder, `aesp node` in a process of its own.
pub struct Host {
    folder: TempDir,
    binary: PathBuf,
    options: HostOptions,
    key: String,
    grpc: SocketAddr,
    https: SocketAddr,
    metrics: SocketAddr,
    process: Process,
}

/// A client certificate that the Host's development authority issued.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// What the Host calls its holder.
    pub identity: String,
    /// Its serial number.
    pub serial: String,
}

impl Host {
    /// Makes a Host and starts it.
    ///
    /// # Errors
    /// When a step fails, with what the process said.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(HostOptions::default()).await
    }

    /// Makes a Host with options and starts it.
    ///
    /// # Errors
    /// When a step fails, with what the process said.
    pub async fn with(options: HostOptions) -> anyhow::Result<Self> {
        let binary = aesp_binary()?;
        let folder = tempfile::Builder::new().prefix("aesp-host-").tempdir()?;
        let data = folder.path().join("data");
        let mut init = Command::new(&binary);
        init.args(["init", "--output", "json", "--data-dir"]).arg(&data);
        for listener in ["--listen-grpc", "--listen-https", "--listen-metrics"] {
            init.args([listener, "127.0.0.1:0"]);
        }
        let made = json_of(init).await?;
        let key = text(&made, "administrator_api_key")?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (process, [grpc, https, metrics]) = node(&binary, folder.path(), &options, [any; 3]).await?;
        Ok(Self { folder, binary, options, key, grpc, https, metrics, process })
    }

    /// Starts the node again, on the same data and addresses, after [`Process::kill`] or [`Process::stop`].
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let addresses = [self.grpc, self.https, self.metrics];
        (self.process, _) = node(&self.binary, self.folder.path(), &self.options, addresses).await?;
        Ok(())
    }

    /// Returns the node's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns the folder with everything that it stored and logged.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the endpoint for clients and Runtimes.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.url().parse().expect("is an address")
    }

    /// Returns the same as text.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.grpc.port())
    }

    /// Returns where the node takes gRPC.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Returns where metrics are, in plain HTTP.
    #[must_use]
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// Returns the certificate of the authority that the node's own is from.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("data/pki/ca.pem")
    }

    /// Returns the platform administrator's API key.
    #[must_use]
    pub fn administrator_key(&self) -> &str {
        &self.key
    }

    /// Trusts the node, and shows `certificate` if there is one.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn tls(&self, certificate: Option<&Certificate>) -> anyhow::Result<Tls> {
        let identity = certificate.map(|c| (c.certificate.clone(), c.key.clone()));
        Ok(Tls::from_files(self.ca(), identity)?)
    }

    /// Returns a client with these credentials.
    ///
    /// # Errors
    /// When the credentials can't be used.
    pub fn client(&self, credentials: Credentials) -> anyhow::Result<Client> {
        Ok(Client::builder(self.tls(None)?).endpoint(self.endpoint()).credentials(credentials).build()?)
    }

    /// Returns a client of the platform's administrator.
    ///
    /// # Errors
    /// When the credentials can't be used.
    pub fn administrator(&self) -> anyhow::Result<Client> {
        self.client(Credentials::ApiKey(self.key.as_str().into()))
    }

    /// Has a Runtime's certificate issued by `aesp pki issue`.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn issue(&self, runtime_id: &str) -> anyhow::Result<Certificate> {
        let mut issue = self.command();
        issue.args(["pki", "issue", "--name", runtime_id, "--runtime", runtime_id]);
        let issued = json_of(issue).await?;
        Ok(Certificate {
            certificate: text(&issued, "certificate")?.into(),
            key: text(&issued, "key")?.into(),
            identity: text(&issued, "identity")?,
            serial: text(&issued, "serial")?,
        })
    }

    /// Returns the command `aesp`, told where the Host is, with JSON output. It has no credentials yet.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env_remove("AESP_API_KEY")
            .env("AESP_ENDPOINT", self.url())
            .env("AESP_CA", self.ca())
            .env("AESP_CONFIG", self.folder.path().join("data/aesp.toml"))
            .env("AESP_PROFILE", self.folder.path().join("no-profile.toml"))
            .env("AESP_OUTPUT", "json");
        command
    }
}

/// Runs a command to its end and returns the JSON that it printed.
pub(crate) async fn json_of(mut command: Command) -> anyhow::Result<Value> {
    let output = soon("the command ends", command.kill_on_drop(true).output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed no JSON: {said}"))
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    value[field].as_str().map(str::to_owned).with_context(|| format!("the command showed no {field}"))
}

/// Starts the node and waits until it listens.
async fn node(
    binary: &Path,
    folder: &Path,
    options: &HostOptions,
    addresses: [SocketAddr; 3],
) -> anyhow::Result<(Process, [SocketAddr; 3])> {
    let mut command = Command::new(binary);
    command.args(["node", "--config"]).arg(folder.join("data/aesp.toml"));
    for (flag, address) in ["--listen-grpc", "--listen-https", "--listen-metrics"].iter().zip(addresses) {
        command.arg(flag).arg(address.to_string());
    }
    for setting in &options.set {
        command.args(["--set", setting]);
    }
    let mut process = Process::start(command, &folder.join("node.log"))?;
    let listening = process
        .line("the node listens", |line| {
            let entry: Value = serde_json::from_str(line).ok()?;
            let address = |name: &str| entry[name].as_str()?.parse().ok();
            Some([address("grpc")?, address("https")?, address("metrics")?])
        })
        .await?;
    Ok((process, listening))
}
