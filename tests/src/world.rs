use std::time::Duration;

use aesp_sdk::{Client, RuntimeBuilder, Session};

use crate::{Account, Certificate, Host, HostOptions, Tenant, Worker, echo, platform};

/// The life of a session that a test uses.
pub const HOUR: Duration = Duration::from_secs(3600);

/// A Host with the tenant `acme`, its contract `echo`, a role `caller` for every tool, an agent that has it, and a registered
/// Runtime certificate.
pub struct World {
    /// The Host.
    pub host: Host,
    /// The platform's administrator.
    pub administrator: Client,
    /// The tenant.
    pub acme: Tenant,
    /// The agent.
    pub agent: Account,
    /// The certificate that is registered as the Runtime `worker`.
    pub certificate: Certificate,
}

impl World {
    /// Makes one.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn new() -> anyhow::Result<Self> {
        Self::with(HostOptions::default()).await
    }

    /// Makes one whose Host has options.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn with(options: HostOptions) -> anyhow::Result<Self> {
        let host = Host::with(options).await?;
        let administrator = host.administrator()?;
        let acme = platform::create_tenant(&administrator, "acme").await?;
        acme.offer(echo()).await?;
        acme.role("caller", &["*"]).await?;
        let agent = acme.account("assistant", &["caller"]).await?;
        let certificate = platform::register(&host, "worker", &[&acme]).await?;
        Ok(Self { host, administrator, acme, agent, certificate })
    }

    /// Opens a session of the agent.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn session(&self) -> anyhow::Result<Session> {
        Ok(self.agent.client(&self.host)?.session(HOUR).await?)
    }

    /// Describes a Runtime with the registered certificate.
    ///
    /// # Errors
    /// When the certificate can't be read.
    pub fn runtime(&self) -> anyhow::Result<RuntimeBuilder> {
        Worker::builder(&self.host, "worker", &self.certificate)
    }

    /// Starts a Runtime that echoes.
    ///
    /// # Errors
    /// When the Host refuses it.
    pub async fn echo(&self) -> anyhow::Result<Worker> {
        Worker::start(self.runtime()?.tool("echo", async |_, args| Ok(args))).await
    }
}
