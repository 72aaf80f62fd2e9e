//! What this node does at the request of another: the last hop of a call, and what belongs to it.

use std::sync::Arc;

use aesp_proto::{
    Error, Incarnation,
    v1::{
        DispatchAccepted, RemoteDispatch, RuntimesRequest, remote_dispatch_part::Part,
        runtimes_request::Request,
    },
};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use prost::Message as _;
use tokio::time::Instant;
use tracing::warn;

use super::{late, order, wire};
use crate::{Attempt, Lost, LostReason, Update, shared::Shared, table::Route};

/// The answer to a peer, in parts.
type Answer = BoxStream<'static, Result<Bytes, Error>>;

/// Answers a request of a peer. What it begins, it begins before this returns, so that requests are in the order of the link.
pub(crate) fn asked(shared: &Arc<Shared>, from: Incarnation, payload: Bytes) -> Answer {
    match RuntimesRequest::decode(payload).map(|request| request.request) {
        Ok(Some(Request::Dispatch(message))) => dispatch(shared, from, message),
        Ok(Some(Request::Late(outcome))) => once(late::asked(Arc::clone(shared), outcome)),
        Ok(Some(Request::Order(asked))) => once(order::asked(Arc::clone(shared), asked)),
        Ok(None) | Err(_) => once(async { Err(Error::invalid("this node does not know the request")) }),
    }
}

fn once(answer: impl Future<Output = Result<Bytes, Error>> + Send + 'static) -> Answer {
    stream::once(answer).boxed()
}

/// The last hop: hands the call to a Runtime that is connected here, or says why not. When the answer is dropped, the Runtime
/// is told to stop.
fn dispatch(shared: &Arc<Shared>, from: Incarnation, message: RemoteDispatch) -> Answer {
    let served = &shared.wiring.metrics.remote;
    match accept(shared, from, message) {
        Ok((attempt, accepted)) => {
            served.with_label_values(&["served"]).inc();
            let first = wire::encode(Part::Accepted(accepted));
            stream::once(async move { Ok(first) }).chain(stream::unfold(attempt, updates)).boxed()
        }
        Err(reason) => {
            served.with_label_values(&["refused"]).inc();
            let lost = Update::Lost(Lost { sent: false, reason, retry_after: None });
            once(async move { Ok(wire::encode(wire::part(lost))) })
        }
    }
}

async fn updates(mut attempt: Attempt) -> Option<(Result<Bytes, Error>, Attempt)> {
    let update = attempt.next().await?;
    Some((Ok(wire::encode(wire::part(update))), attempt))
}

/// INVARIANT: a call goes over one link between nodes at most: it is given to a Runtime of this node or to none.
fn accept(
    shared: &Arc<Shared>,
    from: Incarnation,
    message: RemoteDispatch,
) -> Result<(Attempt, DispatchAccepted), LostReason> {
    // Whether the lease is held, and the permit not older than the rights, is looked at again when the call is sent.
    if (shared.wiring.lease)().is_zero() {
        return Err(LostReason::NoLease);
    }
    let dispatch = wire::from_wire(message, Instant::now()).map_err(|error| {
        warn!(peer = %from, %error, "a peer's dispatch can't be read");
        LostReason::Unreachable
    })?;
    let queue = shared.wiring.options.queue_calls;
    let Route::To(link) = shared.table.route(&dispatch, &shared.wiring.entropy, queue) else {
        // The asker's view of this node was old; it looks elsewhere.
        return Err(LostReason::Unreachable);
    };
    let identity = link.identity.get().map(ToString::to_string).unwrap_or_default();
    let accepted = DispatchAccepted { identity, connection_id: link.id.as_bytes().to_vec() };
    Ok((shared.give(dispatch, link), accepted))
}
