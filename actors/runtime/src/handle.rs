use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_audit::Recorder;
use aesp_proto::{
    Clock, ConnectionId, DispatchId, Entropy, Error as Refusal, ErrorCode, SessionId, TenantId,
    v1::{ConnectedRuntime, ContractDraft, RuntimeFrame},
};
use aesp_supervision::{Restart, Supervisor};
use futures::{Stream, future::join_all};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tonic::Status;

use crate::{
    Admission, Attempt, Directory, Dispatch, Error, HostFrames, LateResults, Metrics, Options, PeerIdentity,
    RunningDispatch,
    actor::{Arguments, ConnectionActor, Message, Untouched},
    link::{Backlog, Link},
    shared::Shared,
    table::Route,
};

/// Connections are temporary: only the supervisor itself is ever restarted.
const RESTART: Restart = Restart { intensity: 10, within: Duration::from_secs(60) };
/// How long a connection may take to do as it is told.
const ANSWER: Duration = Duration::from_secs(5);
/// When a call that nobody fulfils may be tried again: Runtimes reconnect within a second or so.
const RECONNECT: Duration = Duration::from_secs(1);

/// What connections need from the rest of the Host.
pub struct Wiring {
    /// The Host's snapshots.
    pub directory: Arc<dyn Directory>,
    /// The tenants' quotas.
    pub admission: Arc<dyn Admission>,
    /// Settles calls after the fact.
    pub late: Arc<dyn LateResults>,
    /// The audit log.
    pub recorder: Recorder,
    /// Owns the connections.
    pub supervisor: Supervisor,
    /// Wall-clock time, for what people read.
    pub clock: Arc<dyn Clock>,
    /// Ids and choices.
    pub entropy: Entropy,
    /// What is counted.
    pub metrics: Metrics,
    /// Bounds.
    pub options: Options,
}

/// The Runtimes connected to this node. Cheap to clone.
#[derive(Clone)]
pub struct Runtimes {
    shared: Arc<Shared>,
    supervisor: Supervisor,
}

impl Runtimes {
    /// Starts the supervisor of connections.
    ///
    /// # Errors
    /// [`Error::Actor`] if it does not start.
    pub async fn start(wiring: Wiring) -> Result<Self, Error> {
        let nested = wiring.supervisor.nest("runtimes", RESTART).await;
        let supervisor = nested.map_err(|error| Error::Actor(Box::new(error)))?;
        Ok(Self { shared: Arc::new(Shared::new(wiring)), supervisor })
    }

    /// Serves one connection until either side ends it. The Runtime must announce itself first.
    ///
    /// # Errors
    /// [`Error::NotServing`] while the node shuts down or has too many connections.
    pub async fn connect<S>(&self, peer: PeerIdentity, inbound: S) -> Result<HostFrames, Error>
    where
        S: Stream<Item = Result<RuntimeFrame, Status>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        if shared.is_leaving() || shared.links.len() >= shared.wiring.options.max_connections {
            return Err(Error::NotServing);
        }
        let id = ConnectionId::random(&shared.wiring.entropy);
        let (outgoing, frames) = mpsc::unbounded_channel();
        let backlog = Arc::new(Backlog::default());
        let inbound = Box::pin(inbound);
        let arguments = Arguments { id, peer, shared, inbound, outgoing, backlog: Arc::clone(&backlog) };
        let spawned = self.supervisor.spawn("runtime_connection", ConnectionActor, arguments).await;
        Ok(HostFrames::new(frames, backlog, spawned.map_err(Error::Actor)?))
    }

    /// Gives a call to one of the Runtimes that fulfil its contract. Returns at once.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] and [`Error::Overloaded`].
    pub fn dispatch(&self, dispatch: Dispatch) -> Result<Attempt, Error> {
        let options = &self.shared.wiring.options;
        let name = || dispatch.name.to_string();
        let link = match self.shared.table.route(&dispatch, &self.shared.wiring.entropy, options.queue_calls)
        {
            Route::To(link) => link,
            Route::Full => return Err(Error::Overloaded { name: name(), retry_after: options.retry_after }),
            Route::Nowhere => {
                let version = dispatch.version.to_string();
                return Err(Error::NoRuntime { name: name(), version, retry_after: RECONNECT });
            }
        };
        let (attempt, reply) =
            Attempt::new(dispatch.id, Arc::clone(&link), Arc::clone(&self.shared), dispatch.streaming);
        self.shared.hold(&dispatch, &link);
        link.load.fetch_add(1, Ordering::Relaxed);
        // A connection that has just ended tells the attempt so, because the message is dropped.
        link.tell(Message::Dispatch(Box::new(dispatch), Untouched::new(reply)));
        Ok(attempt)
    }

    /// Returns the dispatch if a Runtime works on it.
    #[must_use]
    pub fn find(&self, dispatch: DispatchId) -> Option<RunningDispatch> {
        self.shared.find(dispatch)
    }

    /// Returns the tools that Runtimes registered for one session in DEVELOPMENT mode.
    #[must_use]
    pub fn development_tools(&self, tenant: TenantId, session: SessionId) -> Vec<Arc<ContractDraft>> {
        self.shared.table.development_tools(tenant, session)
    }

    /// Returns the connected Runtimes that serve `tenant`, or all; of each, what concerns the tenant.
    #[must_use]
    pub fn list(&self, tenant: Option<TenantId>) -> Vec<ConnectedRuntime> {
        let serves = |link: &Link| {
            link.serving.load(Ordering::Acquire) && tenant.is_none_or(|tenant| link.serves(tenant))
        };
        let mut listed: Vec<_> =
            self.shared.select(serves).iter().filter_map(|link| describe(link, tenant)).collect();
        listed.sort_by(|a, b| (&a.runtime_id, &a.connection_id).cmp(&(&b.runtime_id, &b.connection_id)));
        listed
    }

    /// Closes the connections of a Runtime whose registration ended, and returns their number.
    pub async fn close_registration(&self, runtime_id: &str) -> usize {
        let error = || Refusal::new(ErrorCode::PermissionDenied, "the Runtime's registration was revoked");
        self.close(self.shared.select(|link| link.runs(runtime_id)), error).await
    }

    /// Closes the connections of a certificate that was revoked, announced or not, and returns their number.
    pub async fn close_identity(&self, identity: &str) -> usize {
        let error = || Refusal::new(ErrorCode::CertificateInvalid, "the Runtime's certificate was revoked");
        self.close(self.shared.select(|link| link.peer.is(identity)), error).await
    }

    /// Checks every connection that serves `tenant` (or all) against the directory again. When it returns, nothing is
    /// dispatched on a right that was lost, and what ran on it is cancelled. Change the directory's snapshots first.
    pub async fn recheck(&self, tenant: Option<TenantId>) {
        let tenant = tenant.filter(|tenant| *tenant != TenantId::PLATFORM);
        let links = self.shared.select(|link| tenant.is_none_or(|tenant| link.serves(tenant)));
        ask(links, Message::Recheck).await;
    }

    /// Tells a Runtime to finish its calls within `grace` and leave, and returns the number of its connections.
    pub fn drain(&self, runtime_id: &str, reason: &str, grace: Duration) -> usize {
        let links = self.shared.select(|link| link.runs(runtime_id));
        links.iter().filter(|link| link.tell(Message::Drain(reason.to_owned(), grace))).count()
    }

    /// Tells every Runtime to go to another node, waits until they left or `grace` passed, and closes what is left.
    pub async fn go_away_all(&self, grace: Duration) {
        self.shared.leaving.store(true, Ordering::Release);
        let until = Instant::now() + grace;
        for link in self.shared.select(|_| true) {
            link.tell(Message::Drain("the node shuts down".to_owned(), grace));
        }
        self.left(until).await;
        let error = || Refusal::new(ErrorCode::ServiceUnavailable, "the node shuts down");
        self.close(self.shared.select(|_| true), error).await;
        self.left(Instant::now() + ANSWER).await;
        self.shared.duties.close();
        // What is not written by then is logged by its own task.
        drop(timeout(ANSWER, self.shared.duties.wait()).await);
    }

    async fn left(&self, until: Instant) {
        loop {
            let departed = self.shared.departed.notified();
            tokio::pin!(departed);
            departed.as_mut().enable();
            if self.shared.links.is_empty() || timeout_at(until, departed).await.is_err() {
                return;
            }
        }
    }

    async fn close(&self, links: Vec<Arc<Link>>, error: impl Fn() -> Refusal) -> usize {
        let count = links.len();
        ask(links, |done| Message::Close(error(), done)).await;
        count
    }
}

fn describe(link: &Arc<Link>, tenant: Option<TenantId>) -> Option<ConnectedRuntime> {
    let terms = link.terms.load();
    let terms = (**terms).as_ref()?;
    let shown = terms.tenants.iter().filter(|own| tenant.is_none_or(|tenant| tenant == **own));
    Some(ConnectedRuntime {
        runtime_id: terms.registration.runtime_id.clone(),
        connection_id: link.id.to_string(),
        state: link.state().to_owned(),
        outstanding: link.outstanding.load(Ordering::Relaxed),
        credits: link.credits.load(Ordering::Relaxed),
        tools: link.tools(tenant),
        connected_at_ms: link.connected_at.0,
        language: terms.language.clone(),
        version: terms.version.clone(),
        tenant_ids: shown.map(ToString::to_string).collect(),
    })
}

/// Sends each connection a message and waits until all have done it; one that has ended has nothing to do.
async fn ask(links: Vec<Arc<Link>>, message: impl Fn(oneshot::Sender<()>) -> Message) {
    let answers = links.iter().map(|link| {
        let (done, answer) = oneshot::channel();
        link.tell(message(done));
        answer
    });
    let answers = join_all(answers.collect::<Vec<_>>());
    if timeout(ANSWER, answers).await.is_err() {
        tracing::error!("a runtime connection did not answer in time");
    }
}

impl std::fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtimes").field("connections", &self.shared.links.len()).finish_non_exhaustive()
    }
}
