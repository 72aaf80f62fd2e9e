use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use aesp_sdk::{Client, Credentials, Endpoint, Tls};
use serde_json::Value;
use tokio::process::Command;

use crate::{Process, Site};

/// How a [`Host`] is to be started.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// Settings beside those of `aesp init`, as `SECTION.KEY=VALUE`.
    pub set: Vec<String>,
    /// Further settings for `aesp init`, which stand in the configuration file.
    pub init: Vec<String>,
}

/// A real Host: a folder that `aesp init` made, and `aesp node` in a process of its own.
pub struct Host {
    site: Site,
    config: PathBuf,
    name: Option<String>,
    settings: Vec<String>,
    addresses: Addresses,
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
        Self::on(Site::alone(&options.init).await?, None, options.set).await
    }

    /// Starts a node on a site, under a name of its own where there are several.
    pub(crate) async fn on(site: Site, name: Option<String>, settings: Vec<String>) -> anyhow::Result<Self> {
        let config = site.config();
        Self::by(site, config, name, settings).await
    }

    /// Starts a node on a site, with a configuration of its own.
    pub(crate) async fn by(
        site: Site,
        config: PathBuf,
        name: Option<String>,
        settings: Vec<String>,
    ) -> anyhow::Result<Self> {
        let any = Addresses::any(name.is_some());
        let (process, addresses) = node(&site, &config, name.as_deref(), &settings, any).await?;
        Ok(Self { site, config, name, settings, addresses, process })
    }

    /// Gives the node a setting, as `SECTION.KEY=VALUE`, which holds from its next start.
    pub fn set(&mut self, setting: impl Into<String>) {
        self.settings.push(setting.into());
    }

    /// Starts the node again, on the same data and addresses, after [`Process::kill`] or [`Process::stop`].
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let (name, addresses) = (self.name.as_deref(), self.addresses);
        (self.process, self.addresses) =
            node(&self.site, &self.config, name, &self.settings, addresses).await?;
        Ok(())
    }

    /// Returns the site that it is a node of.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Returns its name, where it is one of several.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns where other nodes reach it; nothing for a node that is alone.
    #[must_use]
    pub fn peers(&self) -> Option<SocketAddr> {
        self.addresses.peers
    }

    /// Returns the node's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns the folder with everything that it stored and logged.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.site.folder()
    }

    /// Returns the endpoint for clients and Runtimes.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.url().parse().expect("is an address")
    }

    /// Returns the same as text.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addresses.grpc.port())
    }

    /// Returns where the node takes gRPC.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.addresses.grpc
    }

    /// Returns where the node takes HTTPS.
    #[must_use]
    pub fn https(&self) -> SocketAddr {
        self.addresses.https
    }

    /// Returns where metrics are, in plain HTTP.
    #[must_use]
    pub fn metrics(&self) -> SocketAddr {
        self.addresses.metrics
    }

    /// Returns the certificate of the authority that the node's own is from.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.site.ca()
    }

    /// Returns the platform administrator's API key.
    #[must_use]
    pub fn administrator_key(&self) -> &str {
        self.site.administrator_key()
    }

    /// Trusts the node, and shows `certificate` if there is one.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn tls(&self, certificate: Option<&Certificate>) -> anyhow::Result<Tls> {
        self.site.tls(certificate)
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
        self.client(Credentials::ApiKey(self.administrator_key().into()))
    }

    /// Has a Runtime's certificate issued by `aesp pki issue`.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn issue(&self, runtime_id: &str) -> anyhow::Result<Certificate> {
        self.site.issue(&["issue", "--name", runtime_id, "--runtime", runtime_id]).await
    }

    /// Returns the command `aesp`, told where the Host is, with JSON output. It has no credentials yet.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = self.site.command();
        command.env("AESP_ENDPOINT", self.url());
        command
    }
}

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    grpc: SocketAddr,
    https: SocketAddr,
    metrics: SocketAddr,
    peers: Option<SocketAddr>,
}

impl Addresses {
    fn any(member: bool) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { grpc: any, https: any, metrics: any, peers: member.then_some(any) }
    }
}

/// Starts the node and waits until it listens.
async fn node(
    site: &Site,
    config: &Path,
    name: Option<&str>,
    settings: &[String],
    addresses: Addresses,
) -> anyhow::Result<(Process, Addresses)> {
    let mut command = Command::new(site.binary());
    command.args(["node", "--config"]).arg(config);
    let flags = [
        ("--listen-grpc", Some(addresses.grpc)),
        ("--listen-https", Some(addresses.https)),
        ("--listen-metrics", Some(addresses.metrics)),
        ("--listen-peers", addresses.peers),
    ];
    for (flag, address) in flags {
        if let Some(address) = address {
            command.arg(flag).arg(address.to_string());
        }
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    let log = site.folder().join(format!("{}.log", name.unwrap_or("node")));
    let mut process = Process::start(command, &log)?;
    let listening = process
        .line("the node listens", |line| {
            let entry: Value = serde_json::from_str(line).ok()?;
            let address = |name: &str| entry[name].as_str()?.parse().ok();
            Some(Addresses {
                grpc: address("grpc")?,
                https: address("https")?,
                metrics: address("metrics")?,
                peers: address("peers"),
            })
        })
        .await?;
    Ok((process, listening))
}
