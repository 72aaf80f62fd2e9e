use aesp_sdk::{Client, Credentials, RuntimeBuilder, Session};

use crate::{Account, Contract, HOUR, Host, Site, Tenant, Worker, balanced, echo, platform};

/// Three nodes in balance, with the tenant `acme`, its contract `echo`, a role `caller` for every tool and an agent that has it.
pub struct Trio {
    /// Where they are.
    pub site: Site,
    /// The nodes.
    pub nodes: Vec<Host>,
    /// The platform's administrator, at whichever node answers.
    pub administrator: Client,
    /// The tenant.
    pub acme: Tenant,
    /// The agent.
    pub agent: Account,
}

impl Trio {
    /// Makes one.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn new() -> anyhow::Result<Self> {
        Self::with(Vec::new()).await
    }

    /// Makes one whose nodes have settings, as `SECTION.KEY=VALUE`.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn with(settings: Vec<String>) -> anyhow::Result<Self> {
        let site = Site::cluster(settings).await?;
        let mut nodes = Vec::new();
        for name in ["n1", "n2", "n3"] {
            nodes.push(site.node(name).await?);
        }
        let all: Vec<&Host> = nodes.iter().collect();
        let key = Credentials::ApiKey(site.administrator_key().into());
        let administrator = site.client(&all, key)?;
        balanced(&administrator, nodes.len()).await?;
        let acme = platform::create_tenant(&administrator, "acme").await?;
        acme.offer(echo()).await?;
        acme.role("caller", &["*"]).await?;
        let agent = acme.account("assistant", &["caller"]).await?;
        Ok(Self { site, nodes, administrator, acme, agent })
    }

    /// Adds a contract to the tenant.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn offer(&self, contract: Contract) -> anyhow::Result<()> {
        self.acme.offer(contract).await
    }

    /// Connects a Runtime to each node, with the tools that `describe` adds.
    ///
    /// # Errors
    /// When a node refuses one.
    pub async fn workers(
        &self,
        describe: impl Fn(RuntimeBuilder) -> RuntimeBuilder,
    ) -> anyhow::Result<Vec<Worker>> {
        let mut workers = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let runtime_id = format!("worker-{number}");
            let certificate = platform::register(node, &runtime_id, &[&self.acme]).await?;
            workers.push(Worker::start(describe(Worker::builder(node, &runtime_id, &certificate)?)).await?);
        }
        Ok(workers)
    }

    /// Opens a session of the agent that the node of this number owns.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn session(&self, node: usize) -> anyhow::Result<Session> {
        Ok(self.agent.client(&self.nodes[node])?.session(HOUR).await?)
    }

    /// Returns the same session as a client of another node sees it.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn through(&self, node: usize, session: &Session) -> anyhow::Result<Session> {
        Ok(self.agent.client(&self.nodes[node])?.resume(session.id()).await?)
    }
}
