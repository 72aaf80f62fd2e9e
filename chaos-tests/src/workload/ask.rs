use std::time::Duration;

use aesp_proto::Error;
use aesp_sdk::{
    Client, ErrorCode,
    v1::{FunctionCall, InvokeRequest, ResultStatus},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{history::CallKey, tools::Tool};

/// How long the Host has for one attempt.
const CALL_LIMIT_MS: u32 = 2_500;
/// How long a client waits for one; a node that does not answer so long is left for another.
const ATTEMPT: Duration = Duration::from_secs(3);

/// What the Host answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) event: String,
    pub(crate) replayed: bool,
    pub(crate) failure: Option<String>,
    /// Whether it is the answer of this call and no other.
    pub(crate) faithful: bool,
}

/// Makes one attempt at a call.
///
/// # Errors
/// The Host's refusal; `DEADLINE_EXCEEDED` when it does not answer in time.
pub(crate) async fn ask(client: &Client, key: &CallKey, tool: Tool) -> Result<Answer, Error> {
    let args = json!({ "id": format!("{}/{}", key.session, key.invocation) });
    let call =
        FunctionCall { name: tool.name().into(), args_json: args.to_string().into(), ..Default::default() };
    let request = InvokeRequest {
        session_id: key.session.to_string(),
        invocation_id: key.invocation.clone(),
        call: Some(call),
        timeout_ms: CALL_LIMIT_MS,
        ..InvokeRequest::default()
    };
    let mut agent = client.agent();
    let answer = match timeout(ATTEMPT, agent.invoke(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(Error::from_status(&status)),
        Err(_) => return Err(Error::new(ErrorCode::DeadlineExceeded, "the node does not answer")),
    };
    let result = answer.result.unwrap_or_default();
    let failed = result.status() == ResultStatus::Error || result.error.is_some();
    let same = serde_json::from_slice::<Value>(&result.content_json).is_ok_and(|content| content == args);
    Ok(Answer {
        event: answer.event_id,
        replayed: answer.replayed,
        faithful: answer.invocation_id == key.invocation && (failed || same),
        failure: failed.then(|| result.error.unwrap_or_default().r#type),
    })
}

/// What a refusal means for the client that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Asking again, under the same id, may be answered.
    Again,
    /// It may have run; only the Runtime can tell, and soon, or nobody.
    Open,
    /// Asking again hears the same.
    Final,
}

pub(crate) fn verdict(code: ErrorCode) -> Verdict {
    use ErrorCode as E;
    match code {
        E::OutcomeUnknown | E::Cancelled => Verdict::Open,
        E::AuthorizationDenied
        | E::InsufficientPermissions
        | E::RoleRequired
        | E::PermissionDenied
        | E::TenantAccessDenied
        | E::TenantSuspended
        | E::PolicyViolation
        | E::SchemaViolation
        | E::SessionInvalid
        | E::StateConflict
        | E::InvalidRequest => Verdict::Final,
        _ => Verdict::Again,
    }
}
