use std::time::Duration;

use aesp_tests::{Account, Certificate, Host, Tenant, Worker, echo, platform};

use crate::side::Side;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A Host with one tenant, its agent and one Runtime that echoes.
pub(crate) struct Governed {
    host: Host,
    sessions: Vec<aesp_sdk::Session>,
    pid: u32,
    _worker: Worker,
}

/// A fresh Host with a tenant and an account that may call everything.
pub(crate) async fn host() -> anyhow::Result<(Host, Tenant, Account, Certificate)> {
    let host = Host::start().await?;
    let tenant = platform::create_tenant(&host.administrator()?, "bench").await?;
    tenant.role("caller", &["*"]).await?;
    let account = tenant.account("load", &["caller"]).await?;
    let certificate = platform::register(&host, "worker", &[&tenant]).await?;
    Ok((host, tenant, account, certificate))
}

impl Governed {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (mut host, tenant, account, certificate) = host().await?;
        tenant.offer(echo()).await?;
        let runtime = Worker::builder(&host, "worker", &certificate)?.concurrency(4_096);
        let worker = Worker::start(runtime.tool("echo", async |_, args| Ok(args))).await?;
        let sessions = vec![account.client(&host)?.session(HOUR).await?];
        let pid = host.process().id();
        Ok(Self { host, sessions, pid, _worker: worker })
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn side(&self) -> anyhow::Result<Side> {
        Ok(Side { name: "governed", sessions: self.sessions.clone(), pid: self.pid })
    }
}
