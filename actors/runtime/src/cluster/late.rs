//! Outcomes that Runtimes tell after the fact, at a node that does not own the session.

use std::sync::Arc;

use aesp_proto::{
    DispatchId, Error, Incarnation,
    v1::{LateOutcome, LateSettled, LateSettlement, RuntimesRequest, ToolResult, runtimes_request::Request},
};
use bytes::Bytes;
use futures::StreamExt as _;
use prost::Message as _;

use crate::{Settled, late, shared::Shared};

/// Asks the owner of the dispatch's session to settle it. What it can't now, nobody can.
pub(crate) async fn ask(
    shared: &Shared,
    owner: Incarnation,
    identity: &str,
    dispatch: DispatchId,
    result: Option<ToolResult>,
) -> Settled {
    let Some(peers) = shared.cluster.peers() else { return Settled::Later };
    let outcome =
        LateOutcome { dispatch_id: dispatch.as_bytes().to_vec(), identity: identity.to_owned(), result };
    let request = RuntimesRequest { request: Some(Request::Late(outcome)) };
    let Ok(mut answer) = peers.request(owner, request.encode_to_vec().into()) else { return Settled::Later };
    let Some(Ok(part)) = answer.next().await else { return Settled::Later };
    match LateSettled::decode(part).map(|settled| settled.settlement()) {
        Ok(LateSettlement::Recorded) => Settled::Recorded,
        Ok(LateSettlement::Unwanted) => Settled::Unwanted,
        _ => Settled::Later,
    }
}

/// Settles what another node's Runtime told, if this node owns the session.
pub(super) async fn asked(shared: Arc<Shared>, outcome: LateOutcome) -> Result<Bytes, Error> {
    let dispatch = DispatchId::from_slice(&outcome.dispatch_id)
        .map_err(|error| Error::invalid("a late outcome names no dispatch").because(error))?;
    let settlement = match late::settle_here(&shared, &outcome.identity, dispatch, outcome.result).await {
        Settled::Recorded => LateSettlement::Recorded,
        Settled::Unwanted => LateSettlement::Unwanted,
        // Passed on once at most: the asker looks for the owner again.
        Settled::Later | Settled::Elsewhere(_) => LateSettlement::Later,
    };
    Ok(LateSettled { settlement: settlement.into() }.encode_to_vec().into())
}
