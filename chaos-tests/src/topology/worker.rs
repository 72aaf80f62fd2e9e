use std::path::PathBuf;

use aesp_sdk::Endpoint;
use aesp_tests::{Certificate, Process, program_beside};
use anyhow::Context;
use tokio::process::Command;

use crate::runtime::Serving;

/// A process of aesp-chaos-runtime.
pub(crate) struct Worker {
    pub(super) id: String,
    pub(super) certificate: Certificate,
    pub(super) ca: PathBuf,
    /// In the order in which it tries them.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) effects: PathBuf,
    pub(super) visits: PathBuf,
    pub(super) count: usize,
    pub(super) log: PathBuf,
    pub(super) process: Option<Process>,
}

impl Worker {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Starts it; it serves some time later.
    ///
    /// # Errors
    /// When the program is not there.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let mut command =
            Command::new(program_beside("aesp-chaos-runtime", "cargo build -p aesp-chaos-tests --bins")?);
        command.args(["--id", &self.id, "--count", &self.count.to_string()]);
        for endpoint in &self.endpoints {
            command.args(["--endpoint", &endpoint.to_string()]);
        }
        command.arg("--ca").arg(&self.ca);
        command.arg("--certificate").arg(&self.certificate.certificate);
        command.arg("--key").arg(&self.certificate.key);
        command.arg("--effects").arg(&self.effects).arg("--visits").arg(&self.visits);
        self.process = Some(Process::start(command, &self.log)?);
        Ok(())
    }

    /// Kills it, as a crash would.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await.with_context(|| format!("{} can't be killed", self.id))?;
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

    pub(crate) fn is_down(&mut self) -> bool {
        self.process.as_mut().is_none_or(Process::has_ended)
    }

    /// Returns how many of its Runtimes serve, as it said last.
    pub(crate) fn serving(&self) -> usize {
        let lines = self.process.as_ref().map(Process::log).unwrap_or_default();
        let last = lines.iter().rev().find_map(|line| serde_json::from_str::<Serving>(line).ok());
        last.map_or(0, |said| said.serving)
    }

    pub(crate) fn serves_all(&self) -> bool {
        self.serving() == self.count
    }

    /// Returns what it said last, for people.
    pub(crate) fn last_words(&self) -> String {
        let lines = self.process.as_ref().map(Process::log).unwrap_or_default();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}
