#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aesp_proto::{
    Error, ErrorCode, Incarnation, Revision,
    v1::{
        EndSessionsAsk, ForwardedRequest, LostCallsAsk, PeerAsk, PeerDone, forwarded_request::Credentials,
        peer_ask::Ask,
    },
};
use aesp_session::{Origin, Scope};
use axum::{Router, body::Body};
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{HeaderValue, Request, Version, header};
use http_body::Frame;
use http_body_util::BodyExt;
use prost::Message;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use super::{
    Forwarded, Metrics,
    about::{about, method},
    place::{Ground, Place, place},
    wire,
};
use crate::{guard::CORRELATION_HEADER, services::Context, tls::PeerInfo};

/// The longest that a client may give a request.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

type Parts = BoxStream<'static, Result<Bytes, Error>>;

/// Serves what other nodes pass on, and what they ask for themselves. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Owner(Arc<Serving>);

struct Serving {
    context: Context,
    /// The services behind their guard, which authenticates the client again.
    services: Router,
    metrics: Metrics,
}

impl Owner {
    /// Creates the serving side over the guarded services.
    pub(crate) fn new(context: Context, services: Router, metrics: Metrics) -> Self {
        Self(Arc::new(Serving { context, services, metrics }))
    }

    /// Answers what the node `from` asks on the topic `forward`.
    pub(crate) fn asked(&self, from: Incarnation, payload: Bytes) -> Parts {
        let owner = self.clone();
        match PeerAsk::decode(payload).map(|asked| asked.ask) {
            Ok(Some(Ask::Request(request))) => {
                stream::once(async move { owner.serve(from, request).await }).flatten().boxed()
            }
            Ok(Some(Ask::EndSessions(ask))) => {
                stream::once(async move { owner.end_sessions(ask).await.map(done) }).boxed()
            }
            Ok(Some(Ask::Drain(_))) => {
                stream::once(async move { Ok(done(owner.0.context.cluster.drain().await)) }).boxed()
            }
            Ok(Some(Ask::LostCalls(ask))) => {
                stream::once(async move { owner.lost_calls(ask).await.unwrap_or_else(failed) })
                    .flatten()
                    .boxed()
            }
            Ok(None) | Err(_) => failed(Error::invalid("this release does not know what is asked")),
        }
    }

    /// INVARIANT R1: what is decided here is decided by rights as new as those that the gateway compares with afterwards.
    async fn catch_up(&self, request: &ForwardedRequest) -> Result<(), Error> {
        let tenant = request.tenant_id.parse().map_err(|_| Error::invalid("the tenant's id is malformed"))?;
        let asked = aesp_runtime::Rights {
            tenant: Revision(request.tenant_revision),
            platform: Revision(request.platform_revision),
        };
        let views = &self.0.context.views;
        // A view that is not there is loaded as it is now.
        if views.peek(tenant).is_some_and(|view| !view.rights().cover(&asked)) {
            views.refresh(tenant).await?;
        }
        Ok(())
    }

    /// Serves a client's request as if the client were connected here.
    async fn serve(self, from: Incarnation, request: ForwardedRequest) -> Parts {
        let began = Instant::now();
        let Serving { context, services, .. } = &*self.0;
        let Some(method) = method(&request.path) else {
            return failed(Error::invalid("requests of this kind are not forwarded"));
        };
        let about = about(method, &request.body);
        let ownership = &context.ownership;
        let ground = Ground::of(ownership, about);
        let runs = |session, within| context.calls.runs_within(session, within);
        if place(ownership, about, &context.entropy, runs) != Place::Here {
            return self.elsewhere(ground);
        }
        let within = match request.timeout_ms {
            0 => LONGEST,
            milliseconds => Duration::from_millis(milliseconds).min(LONGEST),
        };
        if let Err(error) = self.catch_up(&request).await {
            return failed(error);
        }
        let request = match as_received(from, request) {
            Ok(request) => request,
            Err(error) => return failed(error),
        };
        let begun = timeout(within, async {
            let Ok(response) = services.clone().oneshot(request).await;
            let (head, mut body) = response.into_parts();
            // The head waits for what comes first, which may be that the session has moved.
            let first = body.frame().await;
            (head, first, body)
        });
        let Ok((head, first, body)) = begun.await else {
            return failed(Error::new(ErrorCode::DeadlineExceeded, "the client's time is over"));
        };
        let trailers = first.as_ref().and_then(|first| first.as_ref().ok()).and_then(Frame::trailers_ref);
        let unavailable = wire::unavailable(&head.headers) || trailers.is_some_and(wire::unavailable);
        if unavailable && ground.is_lost(ownership, about) {
            return self.elsewhere(Ground::of(ownership, about));
        }
        self.count("answered");
        let head = wire::encode(wire::head(head.status, &head.headers, began.elapsed()));
        let opening = stream::once(async { Ok(head) });
        // A body that has ended is not asked again.
        let Some(first) = first else { return opening.boxed() };
        let rest = stream::unfold(body, |mut body| async move { Some((body.frame().await?, body)) });
        opening.chain(stream::iter([first]).chain(rest).map(part)).boxed()
    }

    fn elsewhere(&self, ground: Ground) -> Parts {
        self.count("elsewhere");
        let own = self.0.context.ownership.own();
        let told = wire::encode(wire::elsewhere(ground.owner().filter(|owner| *owner != own)));
        stream::once(async { Ok(told) }).boxed()
    }

    async fn end_sessions(&self, ask: EndSessionsAsk) -> Result<usize, Error> {
        let malformed = || Error::invalid("the ids of an ask are malformed");
        let tenant = ask.tenant_id.parse().map_err(|_| malformed())?;
        let scope = match ask.principal_id.as_str() {
            "" => Scope::Tenant(tenant),
            principal => Scope::Principal(tenant, principal.parse().map_err(|_| malformed())?),
        };
        let origin = Origin {
            principal: ask.by_principal_id.parse().ok(),
            decision: ask.decision_id.parse().ok(),
            revision: Revision(ask.revision),
            source_ip: ask.source_ip,
            user_agent: ask.user_agent,
            correlation_id: ask.correlation_id,
        };
        Ok(self.0.context.sessions.end_all(scope, &ask.reason, origin).await?)
    }

    async fn lost_calls(&self, ask: LostCallsAsk) -> Result<Parts, Error> {
        let tenant = ask.tenant_id.parse().map_err(|_| Error::invalid("the tenant's id is malformed"))?;
        let Context { views, calls, .. } = &self.0.context;
        let mut rights = views.subscribe(tenant).await?;
        let running = calls.running(tenant);
        let view = views.get(tenant).await?;
        let principal = view.identity.by_name(&ask.principal).map(|principal| principal.id);
        let calls = calls.clone();
        let counted = async move {
            let Some(principal) = principal else { return Ok(done(0)) };
            // A view that is gone takes every call with it.
            rights.changed().await.ok();
            Ok(done(calls.lost(running, principal).await))
        };
        Ok(stream::once(async { Ok(done(0)) }).chain(stream::once(counted)).boxed())
    }

    fn count(&self, outcome: &str) {
        self.0.metrics.served.with_label_values(&[outcome]).inc();
    }
}

/// Returns the request as the gateway received it, with the gateway's word for who sent it.
fn as_received(from: Incarnation, request: ForwardedRequest) -> Result<Request<Body>, Error> {
    let remote = request.remote_ip.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    let mut received = Request::post(request.path)
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Body::from(request.body))
        .map_err(Error::internal)?;
    let mut voucher = None;
    let headers = received.headers_mut();
    let texts = [
        (header::USER_AGENT, request.user_agent),
        (header::HeaderName::from_static(CORRELATION_HEADER), request.correlation_id),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
    match request.credentials {
        Some(Credentials::Bearer(token)) => {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Error::new(ErrorCode::InvalidCredentials, "the token is malformed"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Some(Credentials::Voucher(word)) => voucher = Some(word),
        None => return Err(Error::new(ErrorCode::AuthenticationFailed, "no credentials were forwarded")),
    }
    received.extensions_mut().insert(PeerInfo { remote, identity: None });
    received.extensions_mut().insert(Forwarded { gateway: from, voucher });
    Ok(received)
}

fn part(frame: Result<Frame<Bytes>, axum::Error>) -> Result<Bytes, Error> {
    let frame = frame.map_err(Error::internal)?;
    match frame.into_data() {
        Ok(data) => Ok(wire::encode(aesp_proto::v1::forwarded_part::Part::Data(data))),
        Err(frame) => match frame.into_trailers() {
            Ok(trailers) => Ok(wire::encode(wire::trailers(&trailers))),
            Err(_) => Err(Error::internal("a frame of an answer is neither data nor trailers")),
        },
    }
}

fn done(count: usize) -> Bytes {
    PeerDone { count: count as u64 }.encode_to_vec().into()
}

fn failed(error: Error) -> Parts {
    stream::once(async { Err(error) }).boxed()
}
