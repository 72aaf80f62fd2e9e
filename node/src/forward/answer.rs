use std::{convert::Infallible, sync::Arc, time::Duration};

use aesp_call::{Caller, View};
use aesp_cluster::peer::{Answer, PeerError};
use aesp_proto::{
    Error, ErrorCode,
    v1::{ForwardedHead, InvokeRequest, forwarded_part::Part},
};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::{about::message, gateway::Gateway, wire};

/// The whole answer of another node to a request that has one message as its answer.
pub(super) struct Gathered {
    head: ForwardedHead,
    frames: Vec<Frame<Bytes>>,
    ended: bool,
}

impl Gathered {
    pub(super) fn new(head: ForwardedHead) -> Self {
        Self { head, frames: Vec::new(), ended: false }
    }

    pub(super) fn add(&mut self, part: Part) {
        match part {
            Part::Data(data) => self.frames.push(Frame::data(data)),
            Part::Trailers(trailers) => {
                self.ended = true;
                self.frames.push(Frame::trailers(wire::headers_from_wire(Some(trailers))));
            }
            // They come first and alone; what comes of a peer that does otherwise is no whole answer.
            Part::Head(_) | Part::Elsewhere(_) => self.frames.clear(),
        }
    }

    /// Tells whether it ends as an answer does: in trailers, or in a head that says how it ended.
    pub(super) fn is_whole(&self) -> bool {
        let names = |header: &aesp_proto::v1::ForwardedHeader| header.name == wire::STATUS_HEADER;
        let in_head = || self.head.headers.iter().flat_map(|headers| &headers.headers).any(names);
        self.ended || in_head()
    }

    /// Returns how long the owner worked.
    pub(super) fn served(&self) -> Duration {
        Duration::from_micros(self.head.served_us)
    }

    pub(super) fn response(self) -> Response {
        let frames = self.frames.into_iter().map(Ok::<_, Infallible>);
        with_head(self.head, Body::new(StreamBody::new(stream::iter(frames))))
    }
}

/// An answer in parts on its way from the owner to the client.
pub(super) struct Passing {
    pub(super) gateway: Arc<Gateway>,
    pub(super) caller: Caller,
    /// The request.
    pub(super) body: Bytes,
    /// The rights that the parts were last passed on by.
    pub(super) rights: Option<Arc<View>>,
    pub(super) parts: Answer,
    pub(super) ended: bool,
    pub(super) _running: TaskTrackerToken,
}

impl Passing {
    pub(super) fn response(self, head: ForwardedHead) -> Response {
        let frames = stream::unfold(self, |mut passing| async move {
            let frame = passing.next().await?;
            Some((Ok::<_, Infallible>(frame), passing))
        });
        with_head(head, Body::new(StreamBody::new(frames)))
    }

    async fn next(&mut self) -> Option<Frame<Bytes>> {
        if self.ended {
            return None;
        }
        let part = match self.parts.next().await {
            Some(Ok(payload)) => wire::decode(payload),
            Some(Err(PeerError::Refused(error))) => Err(error),
            Some(Err(_)) => Err(lost()),
            // Trailers-only answers have their end in the head.
            None => {
                self.ended = true;
                return None;
            }
        };
        let permitted = match part {
            Ok(Part::Data(data)) => self.permitted().await.map(|()| Frame::data(data)),
            Ok(Part::Trailers(trailers)) => {
                self.ended = true;
                return Some(Frame::trailers(wire::headers_from_wire(Some(trailers))));
            }
            Ok(Part::Head(_) | Part::Elsewhere(_)) => Err(lost()),
            Err(error) => Err(error),
        };
        Some(permitted.unwrap_or_else(|error| {
            self.ended = true;
            Frame::trailers(end(error.correlated(&self.caller.source().correlation_id)))
        }))
    }

    /// Lets a part out if the right to it still holds at this moment.
    ///
    /// INVARIANT R1: the owner permitted it before it was on its way.
    async fn permitted(&mut self) -> Result<(), Error> {
        let context = &self.gateway.context;
        if !context.cluster.lease().is_held() {
            return Err(lost());
        }
        if !self.gateway.changed(&self.caller, self.rights.as_ref()) {
            return Ok(());
        }
        let now = context.views.peek(self.caller.tenant());
        let request = message(&self.body).and_then(|message| InvokeRequest::decode(message).ok());
        let request = request.ok_or_else(|| Error::invalid("the request can't be read"))?;
        match context.calls.may_pass_on(&self.caller, request).await {
            Ok(()) => {
                self.rights = now;
                Ok(())
            }
            Err(error) => {
                self.gateway.metrics.forwarded.with_label_values(&["withheld"]).inc();
                Err(self.gateway.withhold(&self.caller, "tool.invoke", error).await)
            }
        }
    }
}

fn with_head(head: ForwardedHead, body: Body) -> Response {
    let status = u16::try_from(head.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = Response::new(body);
    *response.status_mut() = status.unwrap_or(StatusCode::OK);
    *response.headers_mut() = wire::headers_from_wire(head.headers);
    response
}

/// Returns the trailers that end an answer in an error.
fn end(error: Error) -> HeaderMap {
    let response: Response = Status::from(error).into_http();
    let mut trailers = response.headers().clone();
    trailers.remove(header::CONTENT_TYPE);
    trailers
}

fn lost() -> Error {
    Error::new(ErrorCode::ServiceUnavailable, "the node of the session was lost during the call")
        .retry_after(Duration::from_millis(500))
        .remedy("call again with the same invocation_id: what was done is not done twice")
}
