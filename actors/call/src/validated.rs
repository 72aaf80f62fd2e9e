use std::sync::Arc;

use aesp_catalog::{Compiled, Contract};
use aesp_policy::{Context, Permit, Resource};
use aesp_proto::Error;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    Caller, Calls, View,
    admitted::{Admitted, Refusal},
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
}

impl Validated {
    /// Asks for the permit: for the caller and, when a Runtime acts on somebody's behalf, for both.
    pub(crate) fn permit(self, calls: &Calls) -> Result<Permitted, Refusal> {
        match decide(calls, &self.admitted.view, &self) {
            Ok(permit) => Ok(Permitted { validated: self, permit }),
            Err(error) => Err(Box::new((self.admitted, error))),
        }
    }
}

impl Permitted {
    /// Decides again when rights have changed since the permit; returns whether they had.
    ///
    /// INVARIANT R1: called before anything starts on the permit: a dispatch, a stream part, an answer.
    pub(crate) async fn recheck(&mut self, calls: &Calls) -> Result<bool, Error> {
        let admitted = &self.validated.admitted;
        let view = calls.views().get(admitted.caller.tenant()).await?;
        if view.same_rights(&admitted.view) {
            return Ok(false);
        }
        calls.access().authenticator.recheck(&admitted.caller).await?;
        if let Some(behalf) = &admitted.behalf {
            calls.access().authenticator.recheck(behalf).await?;
        }
        let contract = self.validated.contract.contract();
        let offered = view.catalog.find(contract.name(), Some(&contract.version().to_string()));
        if !self.validated.contract.is_development()
            && offered.is_none_or(|offered| offered.contract().digest() != contract.digest())
        {
            return Err(Error::new(
                aesp_proto::ErrorCode::ToolNotFound,
                "the tool's contract was retired while the call ran",
            ));
        }
        self.permit = decide(calls, &view, &self.validated)?;
        self.validated.admitted.view = view;
        Ok(true)
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

/// Decides `tool.invoke` by `view`.
fn decide(calls: &Calls, view: &View, call: &Validated) -> Result<Permit, Error> {
    let contract = call.contract.contract();
    let visible = call.contract.policy_arguments(&call.arguments)?;
    let version = contract.version().to_string();
    let admitted = &call.admitted;
    let resource = Resource::Tool {
        tenant: admitted.caller.tenant(),
        name: contract.name(),
        version: &version,
        effects: contract.effects().as_str(),
        risk: contract.risk().as_str(),
        classification: contract.classification().as_str(),
        tags: contract.tags(),
        required_roles: contract.required_roles(),
        development: call.contract.is_development(),
    };
    let ask = |caller: &Caller| {
        let context = Context {
            arguments: Some(&visible),
            depth: admitted.depth,
            ..calls.access().context(caller, Some(admitted.session.id))
        };
        calls.access().decide_in(view, caller, "tool.invoke", &resource, context)
    };
    if let Some(behalf) = &admitted.behalf {
        ask(behalf)?;
    }
    ask(&admitted.caller)
}
