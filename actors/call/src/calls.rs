use std::{fmt, sync::Arc, time::Duration};

use aesp_audit::{Event, Recorder};
use aesp_cluster::Ownership;
use aesp_proto::{
    DispatchId, Error, ErrorCode, PrincipalId, SessionId, TenantId,
    v1::{EventType, Outcome},
};
use aesp_runtime::Runtimes;
use aesp_session::{OutcomeRow, Sessions};
use aesp_storage::{Kind, Row, Store};
use aesp_tenant::Tenants;
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use crate::{Access, Caller, Views, access::event_of, admitted::Admitted, room::Room, validated::Standing};

/// When a request may succeed that a node refused because it lost its lease.
const LEASE_LOST: Duration = Duration::from_millis(200);

/// What calls are made of.
#[derive(Clone)]
pub struct Parts {
    /// Decides.
    pub access: Access,
    /// Bounds.
    pub tenants: Tenants,
    /// Orders the calls of a session.
    pub sessions: Sessions,
    /// Runs tools.
    pub runtimes: Runtimes,
    /// What this node owns.
    pub shards: Ownership,
    /// Remembers outcomes.
    pub store: Store,
    /// Calls at once on this node, over all tenants.
    pub calls_in_flight: usize,
    /// Tells whether this node may act at this moment: a node whose lease is over may not, however it came to be here.
    pub may_act: MayAct,
}

/// Tells whether the node may act at this moment.
pub type MayAct = Arc<dyn Fn() -> bool + Send + Sync>;

/// Makes tool calls. Cheap to clone.
#[derive(Clone)]
pub struct Calls(Arc<Inner>);

struct Inner {
    parts: Parts,
    room: Room,
    /// What Runtimes work on at this moment.
    working: DashMap<DispatchId, Arc<Standing>>,
    /// Calls that go on when their client has left, so that their end is recorded.
    tasks: TaskTracker,
}

/// Calls as they ran when they were counted.
#[derive(Debug)]
pub struct RunningCalls(Vec<Arc<Standing>>);

/// Where a dispatch belongs, for results that come late. Under the platform, because a Runtime names nothing but the dispatch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DispatchRow {
    pub(crate) tenant: TenantId,
    pub(crate) session: SessionId,
    pub(crate) invocation: String,
    /// The certificate identity of the Runtime that had it, once that is known: the intent comes before a Runtime is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtime: Option<String>,
}

impl Row for DispatchRow {
    const KIND: Kind = Kind::DISPATCH;
    type Key = DispatchId;
}

impl Calls {
    /// Creates the pipeline.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let room = Room::new(parts.calls_in_flight);
        Self(Arc::new(Inner { parts, room, working: DashMap::new(), tasks: TaskTracker::new() }))
    }

    pub(crate) fn room(&self) -> &Room {
        &self.0.room
    }

    pub(crate) fn access(&self) -> &Access {
        &self.0.parts.access
    }

    pub(crate) fn views(&self) -> &Views {
        &self.0.parts.access.views
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.0.parts.access.recorder
    }

    pub(crate) fn tenants(&self) -> &Tenants {
        &self.0.parts.tenants
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.parts.sessions
    }

    pub(crate) fn runtimes(&self) -> &Runtimes {
        &self.0.parts.runtimes
    }

    pub(crate) fn shards(&self) -> &Ownership {
        &self.0.parts.shards
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.parts.store
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Returns how many calls run.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.tasks.len()
    }

    /// Refuses unless this node may act at this moment.
    pub(crate) fn check_lease(&self) -> Result<(), Error> {
        if (self.0.parts.may_act)() {
            return Ok(());
        }
        Err(Error::new(ErrorCode::ServiceUnavailable, "this node has lost its place in the cluster")
            .retry_after(LEASE_LOST)
            .remedy("ask again, at another node"))
    }

    /// Returns when no call runs any more. New ones must have been stopped from coming.
    pub async fn finish(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    pub(crate) fn working(&self, dispatch: DispatchId, standing: Arc<Standing>) {
        self.0.working.insert(dispatch, standing);
    }

    pub(crate) fn worked(&self, dispatch: DispatchId) {
        self.0.working.remove(&dispatch);
    }

    /// Tells whether a Runtime works on this dispatch of a call in the session at this moment: a call within it belongs to what
    /// runs already. Who may make one is decided when it is admitted.
    #[must_use]
    pub fn runs_within(&self, session: SessionId, dispatch: DispatchId) -> bool {
        self.0.working.get(&dispatch).is_some_and(|standing| standing.session == session)
    }

    /// Returns what the Runtime with the caller's certificate works on under this dispatch id.
    pub(crate) async fn working_on(&self, dispatch: DispatchId, caller: &Caller) -> Option<Arc<Standing>> {
        let crate::Means::Certificate(identity) = caller.means() else { return None };
        let running = self.runtimes().find(dispatch).await?;
        // INVARIANT T1: a Runtime calls on behalf of nobody but those whose call it works on, in their own tenant.
        if *running.identity != **identity || running.tenant != caller.tenant() {
            return None;
        }
        self.0.working.get(&dispatch).map(|standing| Arc::clone(&standing))
    }

    /// Returns the tenant's calls that run at this moment. Taken before a change, it has also those that end as they hear of it.
    #[must_use]
    pub fn running(&self, tenant: TenantId) -> RunningCalls {
        let own = |standing: &Standing| standing.caller.tenant() == tenant;
        let running = self.0.working.iter().filter(|standing| own(standing));
        RunningCalls(running.map(|standing| Arc::clone(&standing)).collect())
    }

    /// Counts those of the principal's calls that may not go on by the rights of now: each ends by itself as it hears of them.
    pub async fn lost(&self, running: RunningCalls, principal: PrincipalId) -> usize {
        let mut lost = 0;
        for standing in running.0 {
            let mut callers = std::iter::once(&standing.caller).chain(&standing.behalf);
            if !callers.any(|caller| caller.principal_id() == principal) {
                continue;
            }
            let stands = match self.views().get(standing.caller.tenant()).await {
                Ok(view) => standing.renew(self, &view).await.is_ok(),
                Err(_) => false,
            };
            lost += usize::from(!stands);
        }
        lost
    }

    /// Reads what is known of a call.
    pub(crate) async fn recorded_outcome(
        &self,
        tenant: TenantId,
        session: SessionId,
        invocation: &str,
    ) -> Result<Option<OutcomeRow>, Error> {
        let invocation = invocation.to_owned();
        let read = self.store().run(move |tx| {
            let invocation = invocation.clone();
            Box::pin(async move { aesp_session::read_outcome(tx, tenant, session, &invocation).await })
        });
        Ok(read.await?)
    }

    pub(crate) fn event_of(
        &self,
        admitted: &Admitted,
        kind: EventType,
        action: &str,
        outcome: Outcome,
    ) -> Event {
        let caller = &admitted.caller;
        let mut event = event_of(&self.access().entropy, caller, caller.tenant(), kind, action, outcome);
        event.session = Some(admitted.session.id);
        event.on_behalf_of = admitted.behalf.as_ref().map(Caller::principal_id);
        event.revision = admitted.view.revision;
        event.details.resource = format!("tool:{}", admitted.request.tool);
        event.details.correlation_id.clone_from(&admitted.request.correlation_id);
        event.details.invocation_id = admitted.request.invocation.as_str().to_owned();
        event
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("running", &self.0.tasks.len()).finish_non_exhaustive()
    }
}
