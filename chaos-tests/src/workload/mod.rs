//! What goes on while things break: agents that call, an administrator who changes things, visitors who lose their right.

mod administrator;
mod agent;
mod ask;
mod crowd;
mod persist;
mod status;
mod visitors;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use aesp_proto::Entropy;
use aesp_sdk::{Client, Credentials, v1::CreateSessionRequest};
use aesp_tests::{Account, Tenant, platform};
use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{agent::Agent, crowd::Crowd, persist::persist, status::Watcher, visitors::Visitors};
pub(crate) use self::{
    ask::{Answer, Verdict, ask, verdict},
    crowd::{Crowded, LIMITS},
};
use crate::{access::Access, history::Recorder, tools::Tool};

/// The role of those who may call the tools.
const CALLER: &str = "caller";
/// A day: no session ends by itself, whatever clocks do.
const SESSION_SECONDS: u32 = 86_400;

/// Over how many connections a node is called.
const CONNECTIONS: usize = 3;

/// How much goes on, and where.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) sessions: usize,
    pub(crate) callers: usize,
    pub(crate) pace: Duration,
    /// The nodes that sessions are made at, in turn: their first owners.
    pub(crate) born: Vec<usize>,
    /// The nodes that calls are sent to first, in turn.
    pub(crate) called: Vec<usize>,
}

/// The tenants that the workload lives in.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) tenant: Tenant,
    pub(crate) account: Account,
    /// One that is always at its limits.
    pub(crate) crowded: Crowded,
}

impl Ground {
    /// Makes a tenant with the tools' contracts and an account that may call them, and one that is to be at its limits.
    pub(crate) async fn prepare(administrator: &Client, name: &str) -> anyhow::Result<Self> {
        let tenant = platform::create_tenant(administrator, name).await?;
        for tool in Tool::ALL {
            tenant.offer(tool.contract()).await?;
        }
        tenant.role(CALLER, &["*"]).await?;
        let account = tenant.account("assistant", &[CALLER]).await?;
        let crowded = Crowded::prepare(administrator, &format!("{name}-crowd")).await?;
        Ok(Self { tenant, account, crowded })
    }

    /// Returns the ids of both tenants.
    pub(crate) fn tenants(&self) -> [&str; 2] {
        [self.tenant.id(), self.crowded.tenant.id()]
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::ApiKey(self.account.api_key.as_str().into())
    }
}

/// The workload while it runs.
pub(crate) struct Workload {
    recorder: Recorder,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Workload {
    /// Makes the sessions and starts everybody.
    ///
    /// # Errors
    /// When a session can't be made.
    pub(crate) async fn start(
        access: &Access,
        ground: &Ground,
        load: &Load,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let (recorder, stop) = (Recorder::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let mut clients: HashMap<(usize, usize), Arc<[Client]>> = HashMap::new();
        for n in 0..load.sessions {
            let born = load.born.get(n % load.born.len().max(1)).copied().unwrap_or(0);
            let called = load.called.get(n % load.called.len().max(1)).copied().unwrap_or(0);
            let client = access.client(ground.credentials(), born)?;
            let session = persist(&stop, async || {
                let request = CreateSessionRequest { ttl_seconds: SESSION_SECONDS, ..Default::default() };
                Ok(client.agent().create_session(request).await?.into_inner().session_id)
            });
            let session = session.await.context("no session could be made in time")?;
            let session: Arc<str> =
                session.map_err(|code| anyhow::anyhow!("no session: {}", code.as_str_name()))?.into();
            recorder.serves(&session);
            let clients = match clients.entry((called, n % CONNECTIONS)) {
                Entry::Occupied(made) => Arc::clone(made.get()),
                Entry::Vacant(place) => {
                    Arc::clone(place.insert(access.clients(&ground.credentials(), called)?))
                }
            };
            for caller in 0..load.callers {
                let agent = Agent {
                    clients: Arc::clone(&clients),
                    session: Arc::clone(&session),
                    name: format!("c{caller}"),
                    pace: load.pace,
                    random: Entropy::from_seed(seed ^ (((n * load.callers + caller + 1) as u64) << 20)),
                    recorder: recorder.clone(),
                    stop: stop.clone(),
                };
                tasks.spawn(agent.run());
            }
        }
        let administrator = access.administrator()?;
        let tenant_id = ground.tenant.id().to_owned();
        tasks.spawn(administrator::run(
            administrator.clone(),
            tenant_id.clone(),
            recorder.clone(),
            stop.clone(),
        ));
        let visitors = Visitors {
            access: access.clone(),
            administrator,
            tenant_id,
            recorder: recorder.clone(),
            random: Entropy::from_seed(seed ^ 0x7151),
            stop: stop.clone(),
        };
        tasks.spawn(visitors.run());
        let crowd = Crowd {
            access: access.clone(),
            crowded: ground.crowded.clone(),
            random: Entropy::from_seed(seed ^ 0xC40D),
            recorder: recorder.clone(),
            stop: stop.clone(),
        };
        tasks.spawn(crowd.run());
        if access.endpoints.len() > 1 {
            tasks.spawn(
                Watcher { access: access.clone(), recorder: recorder.clone(), stop: stop.clone() }.run(),
            );
        }
        Ok(Self { recorder, stop, tasks })
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Lets everybody finish what they are at.
    pub(crate) async fn stop(mut self) -> Recorder {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.recorder
    }
}
