//! OpenBao, for tests of keys and secrets. Stands alone, so that the tests of `aesp-keys` can take it without the node.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// A real OpenBao on loopback with a store on disk, unsealed, with a transit engine at `transit` that has a key `aesp`, and a
/// key-value store at `secret`. It dies with this value.
pub struct Bao {
    folder: TempDir,
    scheme: &'static str,
    port: u16,
    unseal: String,
    root: String,
    server: Option<Child>,
}

/// Returns where `bao` is.
///
/// # Errors
/// When it is not installed.
pub fn binary() -> anyhow::Result<PathBuf> {
    let bin = match env::var_os("AESP_OPENBAO_BIN") {
        Some(bin) => PathBuf::from(bin),
        None => {
            PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache/aesp/openbao/bin")
        }
    };
    let path = bin.join("bao");
    ensure!(
        path.is_file(),
        "{} is not there: run scripts/install-peers, or set AESP_OPENBAO_BIN",
        path.display()
    );
    Ok(path)
}

/// A certificate chain, its key and the authority that it is from, PEM files.
pub struct Pki {
    /// The server's chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Bao {
    /// Starts one in plain HTTP.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(None).await
    }

    /// Starts one, with TLS if there is a certificate.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn with(pki: Option<Pki>) -> anyhow::Result<Self> {
        binary()?;
        let folder = tempfile::Builder::new().prefix("aesp-bao-").tempdir()?;
        fs::create_dir(folder.path().join("data"))?;
        let (port, cluster_port) = (free_port()?, free_port()?);
        let (scheme, tls) = match &pki {
            None => ("http", "tls_disable = true".to_owned()),
            Some(Pki { certificate, key }) => (
                "https",
                format!(
                    "tls_cert_file = \"{}\"\n  tls_key_file = \"{}\"\n  tls_min_version = \"tls13\"",
                    certificate.display(),
                    key.display()
                ),
            ),
        };
        let config = format!(
            "storage \"raft\" {{\n  path = \"{data}\"\n  node_id = \"one\"\n}}\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  cluster_address = \"127.0.0.1:{cluster_port}\"\n  {tls}\n}}\n\
             api_addr = \"{scheme}://127.0.0.1:{port}\"\ncluster_addr = \"https://127.0.0.1:{cluster_port}\"\n",
            data = folder.path().join("data").display(),
        );
        fs::write(folder.path().join("bao.hcl"), config)?;
        let mut bao = Self { folder, scheme, port, unseal: String::new(), root: String::new(), server: None };
        bao.spawn()?;
        let made = bao.until(&["operator", "init", "-key-shares=1", "-key-threshold=1"]).await?;
        bao.unseal = made["unseal_keys_b64"][0].as_str().context("no unseal key")?.into();
        bao.root = made["root_token"].as_str().context("no root token")?.into();
        bao.unseal().await?;
        bao.run(&["secrets", "enable", "transit"]).await?;
        bao.run(&["secrets", "enable", "-path=secret", "-version=2", "kv"]).await?;
        bao.run(&["write", "-f", "transit/keys/aesp"]).await?;
        Ok(bao)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("bao.log"))?;
        let mut command = Command::new(binary()?);
        command.arg("server").arg("-config").arg(self.folder.path().join("bao.hcl"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        self.server = Some(command.spawn()?);
        Ok(())
    }

    async fn unseal(&self) -> anyhow::Result<()> {
        let key = self.unseal.clone();
        self.until(&["operator", "unseal", &key]).await?;
        // Until it is the leader of its cluster of one, it serves nothing.
        self.until(&["read", "sys/mounts"]).await.map(drop)
    }

    /// Kills it, as a crash would.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut server) = self.server.take() {
            timeout(DEADLINE, server.kill()).await.context("it does not end")??;
        }
        Ok(())
    }

    /// Stops its process where it is: connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.server.as_ref().and_then(Child::id).context("it does not run")?;
        let id = Pid::from_raw(i32::try_from(id)?).context("it has no process")?;
        Ok(kill_process(id, signal)?)
    }

    /// Starts it again on its data, sealed.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart_sealed(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.until(&["read", "sys/seal-status"]).await.map(drop)
    }

    /// Starts it again on its data, and unseals it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        if self.server.is_none() {
            self.spawn()?;
        }
        self.unseal().await
    }

    /// Returns where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Returns its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the root token.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Runs `bao` as root and returns the JSON that it prints.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(binary()?);
        command
            .args(arguments)
            .env("BAO_ADDR", self.address())
            .env("BAO_TOKEN", &self.root)
            .env("BAO_FORMAT", "json")
            .env("BAO_SKIP_VERIFY", "true")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(DEADLINE, command.output()).await.context("bao does not end")??;
        let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "bao {arguments:?}: {said}{out}");
        Ok(serde_json::from_str(&out).unwrap_or(json!(out.trim())))
    }

    async fn until(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.run(arguments).await {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() >= end => bail!("bao does not come up: {error:#}"),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Writes the policy `aesp`: what a node needs, and no more.
    ///
    /// # Errors
    /// When it fails.
    pub async fn policy(&self) -> anyhow::Result<()> {
        let policy = r#"
path "transit/keys/aesp" { capabilities = ["read"] }
path "transit/encrypt/aesp" { capabilities = ["update"] }
path "transit/decrypt/aesp" { capabilities = ["update"] }
path "transit/keys/aesp/rotate" { capabilities = ["update"] }
path "secret/data/aesp/*" { capabilities = ["read"] }
"#;
        let file = self.folder.path().join("policy.hcl");
        fs::write(&file, policy)?;
        self.run(&["policy", "write", "aesp", &file.display().to_string()]).await.map(drop)
    }

    /// Makes a token with the policy `aesp` and writes it to a file of mode 0600.
    ///
    /// # Errors
    /// When it fails.
    pub async fn token(&self, name: &str, options: &[&str]) -> anyhow::Result<PathBuf> {
        self.policy().await?;
        let made = self.run(&[&["token", "create", "-policy=aesp"], options].concat()).await?;
        let file = self.folder.path().join(name);
        fs::write(&file, made["auth"]["client_token"].as_str().context("no token")?)?;
        Ok(file)
    }

    /// Returns the settings of a node that has its master key here, as `SECTION.KEY=VALUE`, with the token of this file.
    #[must_use]
    pub fn settings(&self, token: &Path) -> Vec<String> {
        vec![
            "keys.provider=vault".into(),
            format!("keys.vault.address={}", self.address()),
            format!("keys.vault.token=file:{}", token.display()),
        ]
    }
}

fn free_port() -> anyhow::Result<u16> {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(taken.local_addr()?.port())
}
