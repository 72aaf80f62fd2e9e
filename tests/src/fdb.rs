use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::Process;

/// How long a cluster may take to become available, on a machine that has other things to do.
const AVAILABLE_WITHIN: Duration = Duration::from_secs(120);
/// For how long `fdbcli` waits for the cluster.
const CLI_SECONDS: &str = "10";

/// A FoundationDB cluster of the test's own: `fdbserver` processes on this machine, each as if on a machine of its own.
pub struct FdbCluster {
    programs: PathBuf,
    folder: TempDir,
    tls: Option<FdbFiles>,
    servers: Vec<Server>,
}

/// The files that one side of a connection proves itself with.
#[derive(Clone, Debug)]
pub struct FdbFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authorities that are believed, PEM.
    pub ca: PathBuf,
}

struct Server {
    machine: String,
    port: u16,
    localities: Vec<(String, String)>,
    process: Option<Process>,
}

impl FdbCluster {
    /// Starts a cluster of one process and configures it.
    ///
    /// # Errors
    /// When it does not become available.
    pub async fn single() -> anyhow::Result<Self> {
        Self::single_with(None).await
    }

    /// As [`FdbCluster::single`]; speaks TLS if there are files.
    ///
    /// # Errors
    /// When it does not become available.
    pub async fn single_with(tls: Option<FdbFiles>) -> anyhow::Result<Self> {
        let cluster = Self::start(&[("m1", Vec::new())], 1, tls)?;
        cluster.configured("configure new single memory").await?;
        Ok(cluster)
    }

    /// Starts one process a machine, of these names and localities; the first `coordinators` of them are that. It is not
    /// configured yet.
    ///
    /// # Errors
    /// When a process can't be started.
    pub fn start(
        machines: &[(&str, Vec<(String, String)>)],
        coordinators: usize,
        tls: Option<FdbFiles>,
    ) -> anyhow::Result<Self> {
        Self::start_some(machines, machines.len(), coordinators, tls)
    }

    /// As [`FdbCluster::start`], with only the first `begun` machines; [`FdbCluster::start_rest`] starts the others.
    ///
    /// # Errors
    /// When a process can't be started.
    pub fn start_some(
        machines: &[(&str, Vec<(String, String)>)],
        begun: usize,
        coordinators: usize,
        tls: Option<FdbFiles>,
    ) -> anyhow::Result<Self> {
        let programs = std::env::var_os("AESP_TEST_FDB_BIN").context("AESP_TEST_FDB_BIN names no folder")?;
        let folder = tempfile::Builder::new().prefix("aesp-fdb-").tempdir()?;
        // All at once, so that no two are the same.
        let listeners: Vec<_> =
            machines.iter().map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let ports: Vec<u16> = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<std::io::Result<_>>()?;
        drop(listeners);
        let mut cluster = Self { programs: programs.into(), folder, tls, servers: Vec::new() };
        let addresses: Vec<_> = ports.iter().take(coordinators).map(|port| cluster.address(*port)).collect();
        fs::write(cluster.file(), format!("test:{}@{}\n", std::process::id(), addresses.join(",")))?;
        for ((machine, localities), port) in machines.iter().zip(ports) {
            let localities = localities.clone();
            cluster.servers.push(Server { machine: (*machine).into(), port, localities, process: None });
        }
        for at in 0..begun {
            cluster.run(at)?;
        }
        Ok(cluster)
    }

    /// Starts the machines that were not yet.
    ///
    /// # Errors
    /// When a process can't be started.
    pub fn start_rest(&mut self) -> anyhow::Result<()> {
        for at in 0..self.servers.len() {
            if self.servers[at].process.is_none() {
                self.run(at)?;
            }
        }
        Ok(())
    }

    fn address(&self, port: u16) -> String {
        let tls = if self.tls.is_some() { ":tls" } else { "" };
        format!("127.0.0.1:{port}{tls}")
    }

    fn run(&mut self, at: usize) -> anyhow::Result<()> {
        let server = &self.servers[at];
        let folder = self.folder.path().join(server.port.to_string());
        let (data, log) = (folder.join("data"), folder.join("log"));
        fs::create_dir_all(&data)?;
        fs::create_dir_all(&log)?;
        let mut command = Command::new(self.programs.join("fdbserver"));
        command.arg("-C").arg(self.file()).arg("-p").arg(self.address(server.port));
        command.arg("-d").arg(data).arg("-L").arg(log);
        command.arg(format!("--locality-machineid={0}", server.machine));
        // Copies are kept apart by zone, which is the machine only where the server finds both itself.
        command.arg(format!("--locality-zoneid={0}", server.machine));
        command.args(["--cache-memory", "64MiB", "--memory", "2GiB"]);
        for (name, value) in &server.localities {
            command.arg(format!("--{name}={value}"));
        }
        if let Some(tls) = &self.tls {
            command.arg("--tls-certificate-file").arg(&tls.certificate);
            command.arg("--tls-key-file").arg(&tls.key).arg("--tls-ca-file").arg(&tls.ca);
        }
        let process = Process::start(command, &folder.join("stderr"))?;
        self.servers[at].process = Some(process);
        Ok(())
    }

    /// Returns the cluster file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("fdb.cluster")
    }

    /// Returns a folder that ends with the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the client library of the programs' release.
    #[must_use]
    pub fn library() -> Option<PathBuf> {
        if let Some(library) = std::env::var_os("AESP_TEST_FDB_LIBRARY") {
            return Some(library.into());
        }
        let programs = PathBuf::from(std::env::var_os("AESP_TEST_FDB_BIN")?);
        Some(programs.parent()?.join("lib/libfdb_c.so"))
    }

    /// Returns the folder of the programs.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Has `fdbcli` run a command, and returns what it said.
    ///
    /// # Errors
    /// With what it said, when it refuses.
    pub async fn cli(&self, line: &str) -> anyhow::Result<String> {
        let mut command = Command::new(self.programs.join("fdbcli"));
        command.arg("-C").arg(self.file()).args(["--timeout", CLI_SECONDS, "--exec", line]);
        if let Some(tls) = &self.tls {
            command.arg("--tls-certificate-file").arg(&tls.certificate);
            command.arg("--tls-key-file").arg(&tls.key).arg("--tls-ca-file").arg(&tls.ca);
        }
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success() && !said.contains("ERROR"), "fdbcli `{line}`: {said}");
        Ok(said)
    }

    /// Returns `status json`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn status(&self) -> anyhow::Result<Value> {
        let said = self.cli("status json").await?;
        let from = said.find('{').context("no JSON")?;
        Ok(serde_json::from_str(said[from..].trim_end())?)
    }

    /// Repeats a `configure` command until it is taken, and waits until all data is as it says.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn configured(&self, line: &str) -> anyhow::Result<()> {
        let until = Instant::now() + AVAILABLE_WITHIN;
        loop {
            match self.cli(line).await {
                Ok(_) => break,
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => sleep(Duration::from_millis(500)).await,
            }
        }
        self.healthy().await
    }

    /// Waits until the database is available and all data has its copies.
    ///
    /// # Errors
    /// When that takes too long, with the status.
    pub async fn healthy(&self) -> anyhow::Result<()> {
        let until = Instant::now() + AVAILABLE_WITHIN;
        loop {
            let status = self.status().await.unwrap_or_default();
            let data = &status["cluster"]["data"]["state"];
            if status["client"]["database_status"]["available"] == true && data["healthy"] == true {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("the cluster is not healthy: {} {data}", status["client"]);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Kills every process of some machines, as the loss of their power would.
    ///
    /// # Errors
    /// When one does not end.
    pub async fn kill(&mut self, machines: &[&str]) -> anyhow::Result<()> {
        for server in &mut self.servers {
            if machines.contains(&server.machine.as_str())
                && let Some(mut process) = server.process.take()
            {
                process.kill().await?;
            }
        }
        Ok(())
    }

    /// Stops or continues every process where it stands.
    pub fn freeze(&self, frozen: bool) {
        for process in self.servers.iter().filter_map(|server| server.process.as_ref()) {
            if frozen { process.freeze() } else { process.thaw() }
        }
    }

    /// Returns the addresses of some machines.
    #[must_use]
    pub fn addresses(&self, machines: &[&str]) -> Vec<String> {
        let chosen = self.servers.iter().filter(|server| machines.contains(&server.machine.as_str()));
        chosen.map(|server| self.address(server.port)).collect()
    }
}

/// Reads the localities of a `foundationdb.conf`: what its `[fdbserver]` section says of them.
///
/// # Errors
/// When it can't be read, or has no such section.
pub fn localities(conf: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = fs::read_to_string(conf).with_context(|| conf.display().to_string())?;
    let mut sections = BTreeMap::<&str, Vec<(String, String)>>::new();
    let mut section = "";
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            continue;
        }
        let (name, value) = line.split_once('=').with_context(|| format!("{line} is no setting"))?;
        sections.entry(section).or_default().push((name.trim().into(), value.trim().into()));
    }
    let settings = sections.remove("fdbserver").context("no section [fdbserver]")?;
    Ok(settings.into_iter().filter(|(name, _)| name.starts_with("locality-")).collect())
}
