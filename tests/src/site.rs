use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aesp_proto::{Clock, SystemClock};
use aesp_sdk::{
    Client, Credentials, Error, Tls,
    v1::{ClusterNode, GetClusterStatusRequest},
};
use anyhow::ensure;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    Certificate, Host, aesp_binary,
    command::{issued, json_of, text},
    until,
};

/// How many shards a store has.
pub const SHARDS: u32 = 256;

/// A folder that `aesp init` made: a store, keys, an authority, a secret. One node may use it alone, or several as a cluster.
/// Cheap to clone; the folder goes with the last one.
#[derive(Clone)]
pub struct Site(Arc<Inner>);

struct Inner {
    folder: TempDir,
    binary: PathBuf,
    key: String,
    /// Settings of every node, as `SECTION.KEY=VALUE`.
    settings: Vec<String>,
}

impl Site {
    /// Makes a site for one node that is alone, with these settings in its configuration, as `SECTION.KEY=VALUE`.
    ///
    /// # Errors
    /// When a step fails, with what the command said.
    pub async fn alone(settings: &[String]) -> anyhow::Result<Self> {
        let flags: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        Self::init(&flags, Vec::new()).await
    }

    /// Makes a site for the nodes of a cluster, which [`Site::node`] starts.
    ///
    /// # Errors
    /// When a step fails, with what the command said.
    pub async fn cluster(settings: Vec<String>) -> anyhow::Result<Self> {
        Self::init(&["--listen-peers", "127.0.0.1:0"], settings).await
    }

    async fn init(flags: &[&str], settings: Vec<String>) -> anyhow::Result<Self> {
        let binary = aesp_binary()?;
        let folder = tempfile::Builder::new().prefix("aesp-host-").tempdir()?;
        let mut init = Command::new(&binary);
        init.args(["init", "--output", "json", "--data-dir"]).arg(folder.path().join("data"));
        for listener in ["--listen-grpc", "--listen-https", "--listen-metrics"] {
            init.args([listener, "127.0.0.1:0"]);
        }
        init.args(flags);
        init.args(store_flags());
        let made = json_of(init).await?;
        let key = text(&made, "administrator_api_key")?;
        Ok(Self(Arc::new(Inner { folder, binary, key, settings })))
    }

    /// Starts a node of the cluster under a name that no living one has.
    ///
    /// # Errors
    /// When it does not come up, with what it said.
    pub async fn node(&self, name: &str) -> anyhow::Result<Host> {
        self.node_with(name, &[]).await
    }

    /// Starts a node of the cluster as [`Site::node`] does, with settings of its own, as `SECTION.KEY=VALUE`.
    ///
    /// # Errors
    /// When it does not come up, with what it said.
    pub async fn node_with(&self, name: &str, own: &[String]) -> anyhow::Result<Host> {
        let pki = self.folder().join("data/pki");
        let (certificate, key) = (pki.join(format!("{name}.pem")), pki.join(format!("{name}.key")));
        if !certificate.exists() {
            self.issue(&["node", name]).await?;
        }
        let mut settings = self.0.settings.clone();
        settings.push(format!("node.name={name}"));
        settings.push(format!("cluster.certificate={}", certificate.display()));
        settings.push(format!("cluster.key={}", key.display()));
        settings.extend_from_slice(own);
        Host::on(self.clone(), Some(name.to_owned()), settings).await
    }

    /// Starts a node by a configuration file that was made for it.
    ///
    /// # Errors
    /// When it does not come up, with what it said.
    pub async fn node_by(&self, name: &str, config: PathBuf) -> anyhow::Result<Host> {
        Host::by(self.clone(), config, Some(name.to_owned()), Vec::new()).await
    }

    /// Returns the folder with everything that its nodes stored and logged.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    /// Returns the configuration that its nodes share.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder().join("data/aesp.toml")
    }

    /// Returns the certificate of the authority that the nodes' own are from.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder().join("data/pki/ca.pem")
    }

    /// Returns the platform administrator's API key.
    #[must_use]
    pub fn administrator_key(&self) -> &str {
        &self.0.key
    }

    /// Returns the program.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.0.binary
    }

    /// Trusts the nodes, and shows `certificate` if there is one.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn tls(&self, certificate: Option<&Certificate>) -> anyhow::Result<Tls> {
        let identity = certificate.map(|c| (c.certificate.clone(), c.key.clone()));
        Ok(Tls::from_files(self.ca(), identity)?)
    }

    /// Returns a client that goes to the first of the nodes that answers.
    ///
    /// # Errors
    /// When the credentials can't be used.
    pub fn client(&self, nodes: &[&Host], credentials: Credentials) -> anyhow::Result<Client> {
        let endpoints = nodes.iter().map(|node| node.endpoint());
        Ok(Client::builder(self.tls(None)?).endpoints(endpoints).credentials(credentials).build()?)
    }

    /// Returns the command `aesp`, with JSON output. It has neither an endpoint nor credentials yet.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.binary());
        command
            .env_remove("AESP_API_KEY")
            .env("AESP_CA", self.ca())
            .env("AESP_CONFIG", self.config())
            .env("AESP_PROFILE", self.folder().join("no-profile.toml"))
            .env("AESP_OUTPUT", "json");
        command
    }

    /// Has a certificate issued by `aesp pki`.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn issue(&self, arguments: &[&str]) -> anyhow::Result<Certificate> {
        let mut issue = self.command();
        issue.arg("pki").args(arguments);
        issued(issue).await
    }
}

/// Returns the nodes as the one that answers sees them.
///
/// # Errors
/// The Host's refusal.
pub async fn nodes(administrator: &Client) -> anyhow::Result<Vec<ClusterNode>> {
    let status = administrator.cluster().get_cluster_status(GetClusterStatusRequest {}).await;
    Ok(status.map_err(|status| Error::from_status(&status))?.into_inner().nodes)
}

/// Waits until so many nodes serve and every shard has an owner among them, each about its share; returns them.
///
/// # Errors
/// When it does not come to that within the deadline.
pub async fn balanced(administrator: &Client, count: usize) -> anyhow::Result<Vec<ClusterNode>> {
    until("the cluster is in balance", async || {
        let nodes = nodes(administrator).await?;
        let fair = SHARDS / u32::try_from(count.max(1))?;
        let owned: u32 = nodes.iter().map(|node| node.shards).sum();
        let serving = nodes.iter().all(|node| node.state == "serving" && node.shards >= fair / 2);
        ensure!(nodes.len() == count && owned == SHARDS && serving, "the nodes are {nodes:?}");
        Ok(nodes)
    })
    .await
}

/// Tells whether `AESP_TEST_STORE` puts stores onto a FoundationDB cluster.
#[must_use]
pub fn on_foundationdb() -> bool {
    std::env::var("AESP_TEST_STORE").is_ok_and(|store| store.starts_with("fdb:"))
}

/// Returns the flags of `aesp init` that put a store onto the FoundationDB cluster that `AESP_TEST_STORE` names, as `fdb:CLUSTER_FILE`, under
/// a prefix of its own; none without it.
#[must_use]
pub fn store_flags() -> Vec<String> {
    static SITES: AtomicUsize = AtomicUsize::new(0);
    let Some(store) = std::env::var("AESP_TEST_STORE").ok().filter(|store| store.starts_with("fdb:")) else {
        return Vec::new();
    };
    let site = SITES.fetch_add(1, Ordering::SeqCst);
    let began = SystemClock.now().0;
    let mut flags = vec!["--store".to_owned(), store];
    let mut set =
        |key: &str, value: String| flags.extend(["--set".to_owned(), format!("store.fdb.{key}={value}")]);
    set("prefix", format!("site-{began:x}-{}-{site}", std::process::id()));
    if let Ok(library) = std::env::var("AESP_TEST_FDB_LIBRARY") {
        set("library", library);
    }
    flags
}
