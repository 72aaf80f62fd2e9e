use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use aesp_proto::{
    Clock, DispatchId, Entropy, SessionId, TenantId,
    v1::{ConnectedRuntime, ContractDraft, HostFrame, RuntimeFrame},
};
use futures::Stream;
use tonic::Status;

use crate::{Admission, Attempt, Directory, Dispatch, Error, LateResults, PeerIdentity, RunningDispatch};

/// Bounds of what connections hold.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often a Runtime must be heard; after three intervals of silence it counts as lost.
    pub heartbeat: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(5) }
    }
}

/// What connections need from the rest of the Host.
pub struct Wiring {
    /// The Host's snapshots.
    pub directory: Arc<dyn Directory>,
    /// The tenants' quotas.
    pub admission: Arc<dyn Admission>,
    /// Settles calls after the fact.
    pub late: Arc<dyn LateResults>,
    /// Wall-clock time, for what people read.
    pub clock: Arc<dyn Clock>,
    /// Ids and choices.
    pub entropy: Entropy,
    /// Bounds.
    pub options: Options,
}

/// The Runtimes connected to this node. Cheap to clone.
#[derive(Clone)]
pub struct Runtimes(Arc<Wiring>);

/// What the Host sends to a Runtime. Dropping it closes the connection.
pub struct HostFrames(());

impl Stream for HostFrames {
    type Item = Result<HostFrame, Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

impl Runtimes {
    /// Starts the supervisor of connections.
    ///
    /// # Errors
    /// [`Error::Actor`] if it does not start.
    pub async fn start(wiring: Wiring) -> Result<Self, Error> {
        Ok(Self(Arc::new(wiring)))
    }

    /// Serves one connection until either side ends it. The Runtime must announce itself first.
    ///
    /// # Errors
    /// [`Error::NotServing`] while the node shuts down.
    pub async fn connect<S>(&self, peer: PeerIdentity, inbound: S) -> Result<HostFrames, Error>
    where
        S: Stream<Item = Result<RuntimeFrame, Status>> + Send + 'static,
    {
        drop((peer, inbound));
        Err(Error::NotServing)
    }

    /// Gives a call to one of the Runtimes that fulfil its contract. Returns at once.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] and [`Error::Overloaded`].
    pub fn dispatch(&self, dispatch: Dispatch) -> Result<Attempt, Error> {
        Err(Error::NoRuntime {
            name: dispatch.name.to_string(),
            version: dispatch.version.to_string(),
            retry_after: self.0.options.heartbeat,
        })
    }

    /// Returns the dispatch if a Runtime works on it.
    #[must_use]
    pub fn find(&self, _dispatch: DispatchId) -> Option<RunningDispatch> {
        None
    }

    /// Returns the tools that Runtimes registered for one session in DEVELOPMENT mode.
    #[must_use]
    pub fn development_tools(&self, _tenant: TenantId, _session: SessionId) -> Vec<Arc<ContractDraft>> {
        Vec::new()
    }

    /// Returns the connected Runtimes that serve `tenant`, or all; of each, what concerns the tenant.
    #[must_use]
    pub fn list(&self, _tenant: Option<TenantId>) -> Vec<ConnectedRuntime> {
        Vec::new()
    }

    /// Closes the connections of a Runtime whose registration ended, and returns their number.
    pub async fn close_registration(&self, _runtime_id: &str) -> usize {
        0
    }

    /// Closes the connections of a certificate that was revoked, and returns their number.
    pub async fn close_identity(&self, _identity: &str) -> usize {
        0
    }

    /// Checks every connection that serves `tenant` (or all) against the directory again. When it returns, nothing is
    /// dispatched on a right that was lost, and what ran on it is cancelled.
    pub async fn recheck(&self, _tenant: Option<TenantId>) {}

    /// Tells a Runtime to finish its calls and leave, and returns the number of its connections.
    pub async fn drain(&self, _runtime_id: &str, _reason: &str) -> usize {
        0
    }

    /// Tells every Runtime to go to another node, waits until they left or `grace` passed, and closes what is left.
    pub async fn go_away_all(&self, _grace: Duration) {}
}
