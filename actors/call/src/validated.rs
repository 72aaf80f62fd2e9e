use std::sync::Arc;

use aesp_catalog::{Compiled, Contract};
use aesp_policy::{Context, Permit, PolicyArguments};
use aesp_proto::{Error, ErrorCode, SessionId, v1::InvokeRequest};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    Caller, Calls, View,
    admitted::{Admitted, Refusal, session_invalid},
    request::CallRequest,
};

/// A call whose arguments satisfy the contract.
#[derive(Debug)]
pub(crate) struct Validated {
    pub(crate) admitted: Admitted,
    pub(crate) contract: Arc<Compiled>,
    pub(crate) arguments: Value,
    /// Tells a repeat from another call.
    pub(crate) digest: [u8; 32],
    pub(crate) deadline: Instant,
}

/// A call that policy permits to be started, by the view of `admitted`.
#[derive(Debug)]
pub(crate) struct Permitted {
    pub(crate) validated: Validated,
    pub(crate) permit: Permit,
    pub(crate) standing: Arc<Standing>,
}

/// What the right to a call depends on: enough to decide it anew, wherever the call is at that moment.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) caller: Caller,
    /// The caller for whom a Runtime acts.
    pub(crate) behalf: Option<Caller>,
    pub(crate) session: SessionId,
    pub(crate) depth: u32,
    contract: Arc<Compiled>,
    /// The arguments that policies may read.
    visible: PolicyArguments,
}

impl Validated {
    /// Asks for the permit: for the caller and, when a Runtime acts on somebody's behalf, for both.
    pub(crate) fn permit(self, calls: &Calls) -> Result<Box<Permitted>, Refusal> {
        let decided = self.standing().and_then(|standing| {
            let permit = standing.decide(calls, &self.admitted.view)?;
            Ok((standing, permit))
        });
        match decided {
            // In a box: it goes through every stage that waits.
            Ok((standing, permit)) => {
                Ok(Box::new(Permitted { validated: self, permit, standing: Arc::new(standing) }))
            }
            Err(error) => Err(Box::new((self.admitted, error))),
        }
    }

    fn standing(&self) -> Result<Standing, Error> {
        let admitted = &self.admitted;
        Ok(Standing {
            caller: admitted.caller.clone(),
            behalf: admitted.behalf.clone(),
            session: admitted.session.id,
            depth: admitted.depth,
            contract: Arc::clone(&self.contract),
            visible: self.contract.policy_arguments(&self.arguments)?,
        })
    }
}

impl Permitted {
    /// Decides again when rights have changed since the permit; returns whether they had.
    ///
    /// INVARIANT R1: called before anything starts on the permit: a dispatch, a stream part, an answer.
    pub(crate) async fn recheck(&mut self, calls: &Calls) -> Result<bool, Error> {
        match self.standing.recheck(calls, &self.validated.admitted.view).await? {
            None => Ok(false),
            Some((permit, view)) => {
                self.permit = permit;
                self.validated.admitted.view = view;
                Ok(true)
            }
        }
    }
}

/// Returns the digest that tells a repeat from another call: SHA-256 over tool, version and canonical arguments.
pub(crate) fn digest(contract: &Contract, arguments: &Value) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [contract.name().as_bytes(), contract.version().to_string().as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    // RFC 8785, so that the order of keys and the spelling of numbers make no difference.
    hash.update(serde_jcs::to_vec(arguments).expect("a JSON value serialises"));
    hash.finalize().into()
}

impl Calls {
    /// Tells whether this node, by its own view of the rights, may hand the caller a part of a call that another node makes for
    /// it. Tools that exist for one session only, and calls on behalf of others, are known to that node alone.
    ///
    /// # Errors
    /// The refusal; `SERVICE_UNAVAILABLE` when only the other node could tell.
    pub async fn may_pass_on(&self, caller: &Caller, request: InvokeRequest) -> Result<(), Error> {
        self.check_lease()?;
        self.access().authenticator.recheck(caller).await?;
        let request = CallRequest::parse(request, &caller.source().correlation_id)?;
        let view = self.views().get(caller.tenant()).await?;
        let found = view.catalog.find(&request.tool, request.version.as_deref());
        let Some(contract) = found.filter(|_| request.on_behalf_of.is_none()) else {
            return Err(Error::new(ErrorCode::ServiceUnavailable, "rights changed while the call ran")
                .remedy("call again with the same invocation_id"));
        };
        let arguments = contract.check_arguments(&request.arguments)?;
        let standing = Standing {
            caller: caller.clone(),
            behalf: None,
            session: request.session,
            depth: 0,
            contract: Arc::clone(contract),
            visible: contract.policy_arguments(&arguments)?,
        };
        standing.decide(self, &view).map(|_| ())
    }
}

impl Standing {
    /// Decides again if rights have changed since `view`; returns the new permit with the view that it was decided by.
    pub(crate) async fn recheck(
        &self,
        calls: &Calls,
        view: &View,
    ) -> Result<Option<(Permit, Arc<View>)>, Error> {
        // INVARIANT S1, R1: a node without a lease neither knows whose the session is nor which rights are in force.
        calls.check_lease()?;
        // INVARIANT R1: nothing of a session goes out when its end has returned.
        if !calls.sessions().lives(self.caller.tenant(), self.session).await? {
            return Err(session_invalid());
        }
        let current = calls.views().get(self.caller.tenant()).await?;
        if current.same_rights(view) {
            return Ok(None);
        }
        let permit = Box::pin(self.renew(calls, &current)).await?;
        Ok(Some((permit, current)))
    }

    /// Decides by `view`, of which nothing is known to be as it was.
    pub(crate) async fn renew(&self, calls: &Calls, view: &View) -> Result<Permit, Error> {
        calls.access().authenticator.recheck(&self.caller).await?;
        if let Some(behalf) = &self.behalf {
            calls.access().authenticator.recheck(behalf).await?;
        }
        let contract = self.contract.contract();
        let offered = view.catalog.find(contract.name(), Some(&contract.version().to_string()));
        if !self.contract.is_development()
            && offered.is_none_or(|offered| offered.contract().digest() != contract.digest())
        {
            let error =
                Error::new(ErrorCode::ToolNotFound, "the tool's contract was retired while the call ran");
            return Err(error);
        }
        self.decide(calls, view)
    }

    /// Decides `tool.invoke` by `view`.
    fn decide(&self, calls: &Calls, view: &View) -> Result<Permit, Error> {
        let resource = self.contract.resource(self.caller.tenant());
        let ask = |caller: &Caller| {
            let context = Context {
                arguments: Some(&self.visible),
                depth: self.depth,
                ..calls.access().context(caller, Some(self.session))
            };
            calls.access().decide_in(view, caller, "tool.invoke", &resource, context)
        };
        if let Some(behalf) = &self.behalf {
            ask(behalf)?;
        }
        ask(&self.caller)
    }
}
