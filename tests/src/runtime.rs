use aesp_sdk::{Error, Runtime, RuntimeBuilder, RuntimeHandle, RuntimeState, RuntimeStatus};
use anyhow::Context;
use tokio::task::JoinHandle;

use crate::{Certificate, Host, soon};

/// An SDK Runtime in this process. Dropping it breaks its connections, as a crash would.
pub struct Worker {
    handle: RuntimeHandle,
    run: JoinHandle<Result<(), Error>>,
}

impl Worker {
    /// Starts describing a Runtime that dials in to `host`.
    ///
    /// # Errors
    /// When the certificate can't be read.
    pub fn builder(
        host: &Host,
        runtime_id: &str,
        certificate: &Certificate,
    ) -> anyhow::Result<RuntimeBuilder> {
        Ok(Runtime::builder(runtime_id, host.tls(Some(certificate))?).endpoint(host.endpoint()))
    }

    /// Runs it and waits until the Host has said of each of its tools whether it takes them.
    ///
    /// # Errors
    /// When the Host refuses it.
    pub async fn start(runtime: RuntimeBuilder) -> anyhow::Result<Self> {
        let runtime = runtime.build()?;
        let handle = runtime.handle();
        let wanted = handle.offered().len();
        let mut worker = Self { handle, run: tokio::spawn(runtime.run()) };
        let serving = |status: &RuntimeStatus| {
            status.state == RuntimeState::Serving && status.fulfilled.len() + status.rejected.len() >= wanted
        };
        worker.status("the Runtime serves", serving).await?;
        Ok(worker)
    }

    /// Waits for a status.
    ///
    /// # Errors
    /// When the Runtime ends or the deadline passes first.
    pub async fn status(
        &mut self,
        what: &str,
        wanted: impl Fn(&RuntimeStatus) -> bool,
    ) -> anyhow::Result<RuntimeStatus> {
        let mut status = self.handle.status();
        let reached = status.wait_for(|status| wanted(status));
        tokio::select! {
            reached = soon(what, reached) => Ok(reached?.context("the Runtime is gone")?.clone()),
            ended = &mut self.run => {
                ended?.with_context(|| format!("the Runtime ended before: {what}"))?;
                anyhow::bail!("the Runtime ended before: {what}")
            }
        }
    }

    /// Returns its handle.
    #[must_use]
    pub fn handle(&self) -> &RuntimeHandle {
        &self.handle
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        soon("the Runtime ends", &mut self.run).await???;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.run.abort();
    }
}
