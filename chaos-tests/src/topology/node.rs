use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_tests::Process;
use anyhow::Context;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{sleep, timeout},
};

use super::preload::{Syncs, Variables};
use crate::faulty::Orders;

/// How often a node that does not come up is started again, as its supervisor would.
const STARTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);
/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(1);
const READY: &[u8; 12] = b"HTTP/1.0 200";

/// A node: its configuration, and its process while it has one.
pub(crate) struct Node {
    pub(super) name: String,
    pub(super) config: PathBuf,
    /// gRPC, HTTPS, metrics.
    pub(super) addresses: [SocketAddr; 3],
    /// What the command is put behind.
    pub(super) prefix: Vec<String>,
    pub(super) variables: Variables,
    /// Where a node of the program that breaks finds what it is to break.
    pub(super) orders: Option<PathBuf>,
    /// What makes its syncs fail.
    pub(super) syncs: Option<Syncs>,
    pub(super) log: PathBuf,
    pub(super) process: Option<Process>,
}

impl Node {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Tells it what to break from now on.
    ///
    /// # Errors
    /// When it is not of the program that can.
    pub(crate) fn order(&self, orders: &Orders) -> anyhow::Result<()> {
        let file = self.orders.as_ref().with_context(|| format!("{} takes no orders", self.name))?;
        Ok(orders.write(file)?)
    }

    /// Has so many of its syncs fail, in percent. Those of a node that is down are sound when it comes back.
    ///
    /// # Errors
    /// When it does not listen.
    pub(crate) fn fail_syncs(&mut self, percent: u32) -> anyhow::Result<()> {
        let syncs = self.syncs.as_ref().context("its syncs can't be made to fail")?;
        let Some(process) = &mut self.process else { return Ok(()) };
        if process.has_ended() { Ok(()) } else { syncs.fail(process.id(), percent) }
    }

    /// Undoes what [`Node::order`] and [`Node::fail_syncs`] did.
    ///
    /// # Errors
    /// When it can't be told.
    pub(super) fn mend(&mut self) -> anyhow::Result<()> {
        if self.orders.is_some() {
            self.order(&Orders::default())?;
        }
        if self.syncs.is_some() {
            self.fail_syncs(0)?;
        }
        Ok(())
    }

    /// Tells whether its process, while there is one or since it ended by itself, said so in its log.
    pub(crate) fn has_said(&self, words: &str) -> bool {
        self.process.as_ref().is_some_and(|process| process.log().iter().any(|line| line.contains(words)))
    }

    /// Returns the sum of its counters whose line begins so.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn counter(&self, begins: &str) -> anyhow::Result<f64> {
        let ask = async {
            let mut probe = TcpStream::connect(self.addresses[2]).await?;
            probe.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
            let mut answer = String::new();
            probe.read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let answer = timeout(PROBE, ask).await.with_context(|| format!("{} shows nothing", self.name))??;
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        Ok(answer.lines().filter(|line| line.starts_with(begins)).filter_map(value).sum())
    }

    pub(super) fn grpc(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not, however often it is tried.
    pub(crate) async fn start(&mut self, binary: &Path) -> anyhow::Result<()> {
        let mut tries = 1;
        loop {
            match self.try_start(binary).await {
                Ok(()) => return Ok(()),
                Err(error) if tries >= STARTS => return Err(error.context(format!("{} is down", self.name))),
                Err(_) => tries += 1,
            }
            sleep(PAUSE).await;
        }
    }

    async fn try_start(&mut self, binary: &Path) -> anyhow::Result<()> {
        let mut command = match self.prefix.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.arg("node").arg("--config").arg(&self.config);
        for (flag, address) in
            ["--listen-grpc", "--listen-https", "--listen-metrics"].iter().zip(self.addresses)
        {
            command.arg(flag).arg(address.to_string());
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(command, &self.log)?;
        let listening = process
            .line(&format!("{} listens", self.name), |line| {
                let entry: Value = serde_json::from_str(line).ok()?;
                let address = |name: &str| entry[name].as_str()?.parse().ok();
                Some([address("grpc")?, address("https")?, address("metrics")?])
            })
            .await?;
        self.addresses = listening;
        self.process = Some(process);
        Ok(())
    }

    /// Asks its probe whether it wants work. One that does not answer wants none.
    pub(crate) async fn is_ready(&self) -> bool {
        let ask = async {
            let mut probe = TcpStream::connect(self.addresses[2]).await?;
            probe.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
            let mut answer = [0; READY.len()];
            probe.read_exact(&mut answer).await?;
            Ok::<_, io::Error>(answer == *READY)
        };
        timeout(PROBE, ask).await.is_ok_and(|answer| answer.unwrap_or(false))
    }

    /// Kills it, as a crash would. One that is down stays down.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await.with_context(|| format!("{} can't be killed", self.name))?;
        }
        Ok(())
    }

    /// Has it end in order.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop().await.with_context(|| format!("{} does not stop", self.name))?;
        }
        Ok(())
    }

    pub(crate) fn freeze(&self) {
        if let Some(process) = &self.process {
            process.freeze();
        }
    }

    pub(crate) fn thaw(&self) {
        if let Some(process) = &self.process {
            process.thaw();
        }
    }

    /// Tells whether its process has ended, or was never started.
    pub(crate) fn is_down(&mut self) -> bool {
        self.process.as_mut().is_none_or(Process::has_ended)
    }
}
