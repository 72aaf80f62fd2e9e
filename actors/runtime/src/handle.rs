use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_audit::Recorder;
use aesp_proto::{
    Clock, ConnectionId, DispatchId, Entropy, Error as Refusal, Incarnation, SessionId, TenantId,
    v1::{ConnectedRuntime, ContractDraft, RuntimeFrame},
};
use aesp_supervision::{Restart, Supervisor};
use bytes::Bytes;
use futures::{Stream, stream::BoxStream};
use tokio::{sync::mpsc, time::timeout};
use tonic::Status;

use crate::{
    Admission, Attempt, Directory, Dispatch, Error, Holder, HostFrames, LateResults, Metrics, Options,
    PeerIdentity, Peers, RemainingLease, RunningDispatch,
    actor::{Arguments, ConnectionActor},
    cluster::{self, Wanted, Whither},
    link::{Backlog, Link},
    shared::{Found, Shared},
    table::Route,
};

/// Connections are temporary: only the supervisor itself is ever restarted.
const RESTART: Restart = Restart { intensity: 10, within: Duration::from_secs(60) };
/// When a call that nobody fulfils may be tried again: Runtimes reconnect within a second or so.
const RECONNECT: Duration = Duration::from_secs(1);
/// Between two looks whether calls are still at Runtimes.
const STILL_HELD: Duration = Duration::from_millis(20);
/// How long the word may take which Runtime of another node works on a call.
const ACCEPTED: Duration = Duration::from_secs(1);

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
    /// What is left of the node's lease. Without one nothing is sent.
    pub lease: RemainingLease,
    /// What is counted.
    pub metrics: Metrics,
    /// Bounds.
    pub options: Options,
}

/// The Runtimes connected to this node, and through its peers those of the others. Cheap to clone.
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

    /// Makes this node one of several, once. `peers` carries what it tells and asks the others.
    pub fn join(&self, own: Incarnation, peers: Arc<dyn Peers>) {
        cluster::join(&self.shared, own, peers);
    }

    /// Hears that a peer is connected: it is told what the Runtimes here fulfil.
    pub fn peer_up(&self, peer: Incarnation) {
        cluster::peer_up(&self.shared, peer);
    }

    /// Hears that a peer is gone: its Runtimes get no call any more.
    pub fn peer_down(&self, peer: Incarnation) {
        self.shared.cluster.elsewhere.down(peer);
        self.shared.cluster.count(&self.shared);
    }

    /// Takes what the Runtimes' component of a peer told by [`Peers::tell`]. In the order of the link.
    pub fn told(&self, from: Incarnation, payload: Bytes) {
        cluster::told(&self.shared, from, payload);
    }

    /// Answers what the Runtimes' component of a peer asked by [`Peers::request`]. Dropping the answer cancels.
    #[must_use]
    pub fn asked(&self, from: Incarnation, payload: Bytes) -> BoxStream<'static, Result<Bytes, Refusal>> {
        cluster::asked(&self.shared, from, payload)
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
        let lease = Arc::clone(&shared.wiring.lease);
        let (outgoing, frames) = mpsc::unbounded_channel();
        let backlog = Arc::new(Backlog::default());
        let inbound = Box::pin(inbound);
        let arguments = Arguments { id, peer, shared, inbound, outgoing, backlog: Arc::clone(&backlog) };
        let spawned = self.supervisor.spawn("runtime_connection", ConnectionActor, arguments).await;
        Ok(HostFrames::new(frames, backlog, spawned.map_err(Error::Actor)?, lease))
    }

    /// Gives a call to one of the Runtimes that fulfil its contract: to one that is connected here if there is, but rather to
    /// one of another node that would begin at once than to one here that lets it wait. Returns at once.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] and [`Error::Overloaded`].
    pub fn dispatch(&self, dispatch: Dispatch) -> Result<Attempt, Error> {
        let shared = &self.shared;
        let options = &shared.wiring.options;
        let here = shared.table.route(&dispatch, &shared.wiring.entropy, options.queue_calls);
        if let Route::To(link) = &here
            && (link.takes_at_once() || shared.cluster.elsewhere.is_empty())
        {
            return Ok(shared.give(dispatch, Arc::clone(link)));
        }
        let wanted = match here {
            Route::To(_) => Wanted::Free,
            Route::Full | Route::Nowhere => Wanted::Waiting(options.queue_calls),
        };
        let none = match cluster::dispatch(shared, &dispatch, wanted) {
            Ok(attempt) => return Ok(attempt),
            Err(none) => none,
        };
        let name = dispatch.name.to_string();
        match (here, none) {
            (Route::To(link), _) => Ok(shared.give(dispatch, link)),
            (Route::Full, _) | (Route::Nowhere, Whither::Full) => {
                Err(Error::Overloaded { name, retry_after: options.retry_after })
            }
            (Route::Nowhere, _) => {
                let version = dispatch.version.to_string();
                Err(Error::NoRuntime { name, version, retry_after: RECONNECT })
            }
        }
    }

    /// Returns the dispatch if a Runtime works on it, here or at another node.
    pub async fn find(&self, dispatch: DispatchId) -> Option<RunningDispatch> {
        let mut identity = match self.shared.find(dispatch)? {
            Found::Running(running) => return Some(running),
            // A Runtime may be faster than the word of its node that it has the call.
            Found::NotAccepted(identity) => identity,
        };
        timeout(ACCEPTED, identity.wait_for(Option::is_some)).await.ok()?.ok()?;
        match self.shared.find(dispatch)? {
            Found::Running(running) => Some(running),
            Found::NotAccepted(_) => None,
        }
    }

    /// Returns when no call is at a Runtime any more, those of other nodes at the Runtimes here included. New ones must have been
    /// stopped from coming.
    pub async fn finish(&self) {
        while self.shared.holds_any() {
            tokio::time::sleep(STILL_HELD).await;
        }
    }

    /// Returns who has a dispatch that this node made.
    #[must_use]
    pub fn holder(&self, dispatch: DispatchId) -> Option<Holder> {
        self.shared.holder(dispatch)
    }

    /// Returns the tools that Runtimes registered for one session in DEVELOPMENT mode, at any node.
    #[must_use]
    pub fn development_tools(&self, tenant: TenantId, session: SessionId) -> Vec<Arc<ContractDraft>> {
        let mut tools = self.shared.table.development_tools(tenant, session);
        tools.extend(self.shared.cluster.elsewhere.development_tools(tenant, session));
        tools
    }

    /// Returns what Runtimes fulfil for a tenant, at any node, as "name@version".
    #[must_use]
    pub fn fulfilled(&self, tenant: TenantId) -> Vec<String> {
        let serves = |link: &Link| link.serving.load(Ordering::Acquire) && link.serves(tenant);
        let here = self.shared.select(serves);
        let mut tools: Vec<_> = here.iter().flat_map(|link| link.tools(Some(tenant))).collect();
        tools.extend(self.shared.cluster.elsewhere.tools(tenant));
        tools.sort();
        tools.dedup();
        tools
    }

    /// Returns the Runtimes connected to this node that serve `tenant`, or all; of each, what concerns the tenant.
    #[must_use]
    pub fn list(&self, tenant: Option<TenantId>) -> Vec<ConnectedRuntime> {
        self.shared.list(tenant)
    }

    /// Closes the connections of a Runtime whose registration ended, and returns their number.
    pub async fn close_registration(&self, runtime_id: &str) -> usize {
        self.shared.close_registration(runtime_id).await
    }

    /// Closes the connections of a certificate that was revoked, announced or not, and returns their number.
    pub async fn close_identity(&self, identity: &str) -> usize {
        self.shared.close_identity(identity).await
    }

    /// Checks every connection that serves `tenant` (or all) against the directory again. When it returns, nothing is
    /// dispatched on a right that was lost, and what ran on it is cancelled. Change the directory's snapshots first.
    pub async fn recheck(&self, tenant: Option<TenantId>) {
        self.shared.recheck(tenant).await;
    }

    /// Tells a Runtime to connect elsewhere, finish its calls and leave, and returns the number of its connections. It gets
    /// calls until it leaves or half of `grace` is over, and is closed after the whole.
    pub fn drain(&self, runtime_id: &str, reason: &str, grace: Duration) -> usize {
        self.shared.drain(runtime_id, reason, grace)
    }

    /// Tells every Runtime to go to another node, as [`Runtimes::drain`], waits until they left or `grace` passed, and closes
    /// what is left.
    pub async fn go_away_all(&self, grace: Duration) {
        self.shared.go_away_all(grace).await;
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl std::fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtimes")
            .field("own", &self.shared.cluster.own())
            .field("connections", &self.shared.links.len())
            .finish_non_exhaustive()
    }
}
