use std::{sync::Arc, time::Duration};

use aesp_catalog::Compiled;
use aesp_proto::{Error, ErrorCode, PrincipalId};
use aesp_session::{Depth, SessionInfo};
use aesp_tenant::CallSlot;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    Caller, Calls, View,
    request::CallRequest,
    validated::{Validated, digest},
};

/// How deep Runtimes may call on behalf of a caller.
const MAX_DEPTH: u32 = 4;

/// A call whose session is live and the caller's own, within the tenant's limits. Holds the tenant's call slot.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    pub(crate) request: CallRequest,
    pub(crate) session: SessionInfo,
    pub(crate) view: Arc<View>,
    pub(crate) depth: u32,
    /// The caller for whom a Runtime acts.
    pub(crate) behalf: Option<Caller>,
    pub(crate) started: Instant,
    /// How long it may take from then on. The tenant's limits count on it: what may run on a node that died ends within it.
    pub(crate) lasts: Duration,
    /// The place within the tenant's limits, free again when the call is over.
    pub(crate) _slot: CallSlot,
    /// The place within the node's limit.
    pub(crate) _place: OwnedSemaphorePermit,
}

impl Calls {
    /// Admits a call: its session is the caller's (or, for a Runtime, that of the call it works on) and lives, and the
    /// tenant and the node have room for it.
    pub(crate) async fn admit(&self, caller: Caller, request: CallRequest) -> Result<Admitted, Error> {
        let started = Instant::now();
        let (behalf, depth) = self.behalf(&caller, &request).await?;
        let owner = behalf.as_ref().unwrap_or(&caller).principal_id();
        let view = self.views().get(caller.tenant()).await?;
        if let Some(refusal) = view.tenant.refuses_calls() {
            return Err(refusal.into());
        }
        let within = if behalf.is_some() { Depth::Nested } else { Depth::Outermost };
        let session = self.session_of(&caller, request.session, owner, within).await?;
        let lasts = self.lasts(&view, &session, &request);
        let slot = self.tenants().admit_call(&view.tenant, lasts).await?;
        let place = self.room().take()?;
        Ok(Admitted {
            caller,
            request,
            session,
            view,
            depth,
            behalf,
            started,
            lasts,
            _slot: slot,
            _place: place,
        })
    }

    /// Returns how long a call may take: the client's own time, or that of the tool's contract.
    fn lasts(&self, view: &View, session: &SessionInfo, request: &CallRequest) -> Duration {
        let limit = match view.catalog.find(&request.tool, request.version.as_deref()) {
            Some(contract) => contract.contract().timeout(),
            // A tool that there is not is refused in its turn.
            None => self.development_timeout(view, session.id, &request.tool).unwrap_or_default(),
        };
        request.timeout.map_or(limit, |asked| asked.min(limit))
    }

    /// Returns the session if it is this principal's; another's session looks like none. One whose shard leaves takes
    /// nested calls only.
    pub(crate) async fn session_of(
        &self,
        caller: &Caller,
        session: aesp_proto::SessionId,
        owner: PrincipalId,
        depth: Depth,
    ) -> Result<SessionInfo, Error> {
        let info = self.sessions().get(caller.tenant(), session, depth).await?;
        if info.tenant != caller.tenant() || info.principal != owner {
            return Err(session_invalid());
        }
        Ok(info)
    }

    /// Finds the caller on whose behalf a Runtime calls, by the dispatch that it is working on at this moment.
    async fn behalf(&self, caller: &Caller, request: &CallRequest) -> Result<(Option<Caller>, u32), Error> {
        let Some(dispatch) = request.on_behalf_of else { return Ok((None, 0)) };
        let working = self.working_on(dispatch, caller).await.ok_or_else(|| {
            Error::new(ErrorCode::AuthorizationDenied, "this Runtime is not working on that dispatch")
                .remedy("call on behalf of a dispatch only while it runs, with the Runtime's own certificate")
        })?;
        if working.session != request.session {
            return Err(session_invalid());
        }
        let depth = working.depth + 1;
        if depth > MAX_DEPTH {
            return Err(Error::new(
                ErrorCode::QuotaExceeded,
                format!("calls are nested deeper than {MAX_DEPTH}"),
            )
            .remedy("return to the caller instead of calling further"));
        }
        let origin = working.behalf.as_ref().unwrap_or(&working.caller);
        Ok((Some(origin.clone()), depth))
    }
}

/// A call that was refused, with what its record needs.
pub(crate) type Refusal = Box<(Admitted, Error)>;

/// The one answer for a session that does not exist, has ended, or is another's.
pub(crate) fn session_invalid() -> Error {
    aesp_session::Error::Invalid.into()
}

impl Admitted {
    /// Finds the contract and checks the arguments against the Host's own schema.
    pub(crate) fn validate(self) -> Result<Validated, Refusal> {
        let found = self.view.catalog.find(&self.request.tool, self.request.version.as_deref());
        let Some(contract) = found.map(Arc::clone) else {
            let error =
                Error::new(ErrorCode::ToolNotFound, "there is no such tool, or it is not offered to you")
                    .remedy("list the tools that you may call: AgentService.ListTools");
            return Err(Box::new((self, error)));
        };
        self.validate_against(contract)
    }

    pub(crate) fn validate_against(self, contract: Arc<Compiled>) -> Result<Validated, Refusal> {
        match contract.check_arguments(&self.request.arguments) {
            Ok(arguments) => {
                // INVARIANT Q1: never longer than what it was admitted for, whatever the tool has become since.
                let timeout = self.lasts.min(contract.contract().timeout());
                let deadline = self.started + timeout.max(Duration::from_millis(1));
                let digest = digest(contract.contract(), &arguments);
                Ok(Validated { admitted: self, contract, arguments, digest, deadline })
            }
            Err(error) => Err(Box::new((self, error.into()))),
        }
    }
}
