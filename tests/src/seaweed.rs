use std::{fs, net::TcpListener, path::PathBuf, process::Stdio};

use anyhow::ensure;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{Process, soon, until};

const ID: &str = "ak";
const SECRET: &str = "sksksksk";
const BUCKET: &str = "backups";

/// SeaweedFS as an S3 server of the test's own, with one bucket.
pub struct Seaweed {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Seaweed {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(program: PathBuf) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let identities = folder.path().join("s3.json");
        let identity = serde_json::json!({
            "name": "t",
            "credentials": [{ "accessKey": ID, "secretKey": SECRET }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        });
        fs::write(&identities, serde_json::json!({ "identities": [identity] }).to_string())?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let names = ["s3", "master", "volume", "filer"];
        // All at once, so that no two are the same.
        let listeners: Vec<_> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let ports: Vec<u16> = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<std::io::Result<_>>()?;
        drop(listeners);
        let mut command = Command::new(&program);
        command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=20", "-master.telemetry=false"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", identities.display()));
        for (name, pair) in names.iter().zip(ports.chunks(2)) {
            command.arg(format!("-{name}.port={}", pair[0])).arg(format!("-{name}.port.grpc={}", pair[1]));
        }
        let process = Process::start(command, &folder.path().join("log"))?;
        let address = |at: usize| format!("127.0.0.1:{}.{}", ports[at], ports[at + 1]);
        until("the bucket is made", async || {
            let mut shell = Command::new(&program);
            shell.arg("shell").arg(format!("-master={}", address(2))).arg(format!("-filer={}", address(6)));
            shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
            let mut child = shell.spawn()?;
            if let Some(mut input) = child.stdin.take() {
                input.write_all(format!("s3.bucket.create -name {BUCKET}\n").as_bytes()).await?;
            }
            let said = soon("the shell ends", child.wait_with_output()).await??;
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            ensure!(said.contains("created bucket"), "{said}");
            Ok(())
        })
        .await?;
        Ok(Self { port: ports[0], _process: process, _folder: folder })
    }

    /// Returns the target of backups below a prefix.
    #[must_use]
    pub fn target(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{}", self.port)
    }

    /// Returns the lines of a file with its credentials.
    #[must_use]
    pub fn credentials(&self) -> String {
        format!("AWS_ACCESS_KEY_ID={ID}\nAWS_SECRET_ACCESS_KEY={SECRET}\n")
    }
}
