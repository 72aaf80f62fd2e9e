//! The owner's side of a call that runs at another node's Runtime.

use std::sync::Arc;

use aesp_proto::{
    ConnectionId, DispatchId,
    v1::{
        DispatchAck, RemoteDispatchPart, RuntimesRequest, remote_dispatch_part::Part,
        runtimes_request::Request, runtimes_tell::Tell,
    },
};
use futures::StreamExt as _;
use prost::Message as _;
use tokio::{sync::watch, time::Instant};
use tracing::debug;

use super::{Place, Wanted, Whither, wire};
use crate::{Attempt, Dispatch, LinkError, Lost, LostReason, PeerAnswer, Update, shared::Shared};

/// A call that another node was asked to have run. Dropping it cancels.
pub(crate) struct RemoteCall {
    place: Place,
    answer: PeerAnswer,
    /// The certificate identity of the Runtime that has it; whoever calls on behalf of the call waits for it.
    identity: watch::Sender<Option<Arc<str>>>,
    connection: Option<ConnectionId>,
}

/// Gives a call to the Runtimes of another node.
///
/// # Errors
/// If no node that is connected takes it: whether some are only full.
pub(crate) fn dispatch(
    shared: &Arc<Shared>,
    dispatch: &Dispatch,
    wanted: Wanted,
) -> Result<Attempt, Whither> {
    let Some(peers) = shared.cluster.peers() else { return Err(Whither::Nowhere) };
    let (now, entropy) = (Instant::now(), &shared.wiring.entropy);
    let mut tried = Vec::new();
    let far = |peer| peers.distance(peer);
    loop {
        let place = match shared.cluster.elsewhere.route(dispatch, wanted, &tried, &far, now, entropy) {
            Whither::To(place) => place,
            none => return Err(none),
        };
        let request = Request::Dispatch(wire::to_wire(dispatch, now));
        let payload = RuntimesRequest { request: Some(request) }.encode_to_vec();
        match peers.request(place.node, payload.into()) {
            Ok(answer) => {
                shared.wiring.metrics.remote.with_label_values(&["sent"]).inc();
                let (identity, known) = watch::channel(None);
                shared.hold_elsewhere(dispatch, known);
                let call = RemoteCall { place, answer, identity, connection: None };
                return Ok(Attempt::elsewhere(dispatch.id, Arc::clone(shared), call));
            }
            Err(error) => {
                debug!(peer = %place.node, %error, dispatch = %dispatch.id, "dispatch not sent to a peer");
                shared.wiring.metrics.remote.with_label_values(&["not_sent"]).inc();
                tried.push(place.node);
            }
        }
    }
}

impl RemoteCall {
    /// Waits for what comes next; nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self, shared: &Shared) -> Update {
        loop {
            let part = match self.answer.next().await {
                Some(Ok(part)) => RemoteDispatchPart::decode(part).ok().and_then(|part| part.part),
                Some(Err(LinkError::NotSent)) => return self.lost(shared, false, LostReason::Unreachable),
                Some(Err(error)) => {
                    debug!(peer = %self.place.node, %error, "dispatch lost at a peer");
                    None
                }
                None => None,
            };
            // Without a word that says otherwise the Runtime may have the call.
            let Some(part) = part else { return self.lost(shared, true, LostReason::Disconnected) };
            return match part {
                Part::Accepted(accepted) => {
                    self.connection = ConnectionId::from_slice(&accepted.connection_id).ok();
                    self.identity.send_replace(Some(accepted.identity.into()));
                    continue;
                }
                Part::Chunk(chunk) => Update::Chunk(chunk),
                Part::Result(result) => Update::Result(result),
                Part::Failed(failed) => Update::Failed(wire::failure(&failed)),
                Part::Lost(lost) => {
                    let lost = wire::lost(&lost);
                    // One that has newer rights takes the call when it is permitted anew.
                    let is_at_fault =
                        !matches!(lost.reason, LostReason::DeadlineExceeded | LostReason::Stale);
                    if !lost.sent && is_at_fault {
                        shared.cluster.elsewhere.avoid(&self.place, Instant::now());
                    }
                    Update::Lost(lost)
                }
            };
        }
    }

    fn lost(&self, shared: &Shared, sent: bool, reason: LostReason) -> Update {
        shared.cluster.elsewhere.avoid(&self.place, Instant::now());
        shared.wiring.metrics.remote.with_label_values(&["lost"]).inc();
        Update::Lost(Lost { sent, reason, retry_after: None })
    }

    /// Has the Runtime forget the result.
    pub(crate) fn acknowledge(&self, shared: &Shared, dispatch: DispatchId) {
        let identity = self.identity.borrow().as_ref().map(ToString::to_string);
        if let (Some(identity), Some(connection)) = (identity, self.connection) {
            let ack = DispatchAck {
                dispatch_id: dispatch.as_bytes().to_vec(),
                connection_id: connection.as_bytes().to_vec(),
                identity,
            };
            shared.cluster.tell(self.place.node, Tell::Ack(ack));
        }
    }
}
