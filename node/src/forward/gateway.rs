use std::{convert::Infallible, sync::Arc, time::Duration};

use aesp_call::{Caller, Source, View};
use aesp_cluster::{
    Ownership,
    peer::{Answer, NotSent, PeerError, Topic},
};
use aesp_proto::{
    Error, ErrorCode, Incarnation, Operation,
    v1::{ForwardedRequest, PeerAsk, forwarded_part::Part, forwarded_request::Credentials, peer_ask::Ask},
};
use axum::{
    body::{Body, to_bytes},
    response::Response,
};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, request::Parts};
use prost::Message;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tonic::Status;
use tower::{Service, ServiceExt};

use super::{
    Forwarded, Metrics,
    about::{About, Method, PREFIX_BYTES, about, method},
    answer::{Gathered, Passing},
    encoding::plain,
    place::{Ground, Place, place},
    wire,
};
use crate::{guard::bearer, services::Context, tls::PeerInfo};

/// How long a request waits for an owner: longer than a dead node's shards need to find one.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long it waits before it looks again by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// Passes requests about sessions of other nodes on to their owners. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Forward(pub(super) Arc<Gateway>);

pub(super) struct Gateway {
    pub(super) context: Context,
    pub(super) metrics: Metrics,
    message_bytes: usize,
    /// Requests that are with another node, or wait for one.
    running: TaskTracker,
}

impl Forward {
    /// Creates the gateway. Requests above `message_bytes` are refused.
    pub(crate) fn new(context: Context, metrics: Metrics, message_bytes: usize) -> Self {
        let running = TaskTracker::new();
        Self(Arc::new(Gateway { context, metrics, message_bytes, running }))
    }

    /// Returns when no request is with another node any more. New ones must have been stopped from coming.
    pub(crate) async fn finish(&self) {
        self.0.running.close();
        self.0.running.wait().await;
    }

    /// Answers an authenticated request here, or has its owner answer it.
    pub(crate) async fn pass<S>(&self, request: Request<Body>, mut inner: S) -> Result<Response, Infallible>
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        // INVARIANT: forwarded once at most. The owner tells its gateway if it is no longer the owner.
        let alone = self.0.context.others.peers().is_none();
        let kind = method(request.uri().path());
        let Some(method) = kind.filter(|_| !alone && request.extensions().get::<Forwarded>().is_none())
        else {
            return inner.call(request).await;
        };
        let (parts, body) = request.into_parts();
        let most = self.0.message_bytes;
        let body = to_bytes(body, most + PREFIX_BYTES).await.ok();
        let Some(body) = body.and_then(|body| plain(&parts.headers, body, most).ok()) else {
            let error = Error::invalid("the message broke off, or is larger than this node takes");
            return Ok(Status::from(error).into_http());
        };
        let about = about(method, &body);
        match parts.extensions.get::<Caller>().cloned() {
            Some(caller) if about != About::Nothing => {
                let gateway = Arc::clone(&self.0);
                let arrived = Instant::now();
                Ok(Passage { gateway, inner, parts, body, method, about, caller, arrived }.run().await)
            }
            _ => inner.call(Request::from_parts(parts, body.into())).await,
        }
    }
}

/// One request on its way.
struct Passage<S> {
    gateway: Arc<Gateway>,
    inner: S,
    parts: Parts,
    body: Bytes,
    method: Method,
    about: About,
    caller: Caller,
    arrived: Instant,
}

/// Why a request is tried again, and where it may be answered.
struct Again {
    reason: &'static str,
    hint: Option<Incarnation>,
}

impl Again {
    fn because(reason: &'static str) -> Self {
        Self { reason, hint: None }
    }
}

impl<S> Passage<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    async fn run(self) -> Response {
        let _running = self.gateway.running.token();
        let mut changes = self.ownership().subscribe();
        let mut until = None;
        let mut hint = None;
        loop {
            changes.mark_unchanged();
            let hinted = hint.take();
            let target = hinted.map_or_else(|| self.place(), Place::There);
            let tried = match target {
                Place::Here => self.here().await,
                Place::There(owner) => self.there(owner).await,
                Place::Nowhere => Err(Again::because("no_owner")),
            };
            let again = match tried {
                Ok(response) => return response,
                Err(again) => again,
            };
            self.gateway.metrics.again.with_label_values(&[again.reason]).inc();
            let end = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
            if Instant::now() >= end {
                self.count("unreachable");
                return self.refusal(unreachable());
            }
            // Nodes that point at each other are asked again after a pause only.
            hint = again.hint.filter(|hint| hinted.is_none() && target != Place::There(*hint));
            if hint.is_none() {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }

    /// Answers it here, unless it loses its place meanwhile.
    async fn here(&self) -> Result<Response, Again> {
        let ground = Ground::of(self.ownership(), self.about);
        let request = Request::from_parts(self.parts.clone(), Body::from(self.body.clone()));
        let Ok(response) = self.inner.clone().oneshot(request).await;
        if wire::unavailable(response.headers()) && ground.is_lost(self.ownership(), self.about) {
            return Err(Again::because("moved"));
        }
        Ok(response)
    }

    /// Has another node answer it.
    async fn there(&self, owner: Incarnation) -> Result<Response, Again> {
        let Some(peers) = self.gateway.context.others.peers() else { return Err(Again::because("not_sent")) };
        let began = Instant::now();
        let rights = self.rights();
        let payload = match self.ask(rights.as_deref()) {
            Ok(payload) => payload,
            Err(error) => return Ok(self.refusal(error)),
        };
        let mut parts = match peers.request(owner, Topic::Forward, payload) {
            Ok(parts) => parts,
            Err(PeerError::NotSent(NotSent::TooLarge)) => {
                return Ok(self.refusal(Error::invalid("the message is larger than nodes pass on")));
            }
            Err(_) => return Err(Again::because("not_sent")),
        };
        let head = match self.part(&mut parts).await {
            Ok(Some(Part::Head(head))) => head,
            Ok(Some(Part::Elsewhere(told))) => {
                let hint = (told.owner > 0).then_some(Incarnation(told.owner));
                return Err(Again { reason: "moved", hint });
            }
            Ok(_) => return self.lost(),
            Err(broken) => return self.broken(broken),
        };
        if self.method.streams {
            self.count("answered");
            let passing = Passing {
                gateway: Arc::clone(&self.gateway),
                caller: self.caller.clone(),
                body: self.body.clone(),
                rights,
                parts,
                ended: false,
                _running: self.gateway.running.token(),
            };
            return Ok(passing.response(head));
        }
        let mut gathered = Gathered::new(head);
        loop {
            match self.part(&mut parts).await {
                Ok(Some(part)) => gathered.add(part),
                Ok(None) if gathered.is_whole() => break,
                Ok(None) => return self.lost(),
                Err(broken) => return self.broken(broken),
            }
        }
        // INVARIANT R1: what the owner permitted may have been revoked while it was on its way.
        if self.gateway.changed(&self.caller, rights.as_ref()) {
            if self.method.repeatable {
                return Err(Again::because("rights"));
            }
            if let Err(error) = self.gateway.context.authenticator.recheck(&self.caller).await {
                self.count("withheld");
                return Ok(self.refusal(self.gateway.withhold(&self.caller, &self.action(), error).await));
            }
        }
        let added = began.elapsed().saturating_sub(gathered.served());
        self.gateway.metrics.added_seconds.observe(added.as_secs_f64());
        self.count("answered");
        Ok(gathered.response())
    }

    async fn part(&self, parts: &mut Answer) -> Result<Option<Part>, PeerError> {
        match parts.next().await {
            Some(Ok(payload)) => wire::decode(payload).map(Some).map_err(PeerError::Refused),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }

    fn broken(&self, error: PeerError) -> Result<Response, Again> {
        match error {
            PeerError::NotSent(_) => Err(Again::because("not_sent")),
            PeerError::Lost => self.lost(),
            PeerError::Refused(error) => {
                self.count("refused");
                Ok(self.refusal(error))
            }
        }
    }

    /// The owner was lost while it may have worked on the request.
    fn lost(&self) -> Result<Response, Again> {
        if self.method.repeatable {
            return Err(Again::because("lost"));
        }
        self.count("lost");
        let error =
            Error::new(ErrorCode::OutcomeUnknown, "the node of the session was lost; it may have been done");
        Ok(self.refusal(error.remedy("look at the session or its calls before you ask again")))
    }

    /// Returns the request as it travels. The owner authenticates it again.
    fn ask(&self, rights: Option<&View>) -> Result<Bytes, Error> {
        let context = &self.gateway.context;
        let extensions = &self.parts.extensions;
        let peer = extensions.get::<PeerInfo>().cloned().unwrap_or_default();
        let source = extensions.get::<Source>().cloned().unwrap_or_default();
        let credentials = match (bearer(&self.parts.headers), &peer.identity) {
            (Some(token), _) => Credentials::Bearer(token.to_owned()),
            (None, Some(certificate)) => {
                let gateway = self.ownership().own();
                let word = context.tokens.vouch(&certificate.identity, gateway, context.clock.now())?;
                Credentials::Voucher(word.to_string())
            }
            (None, None) => {
                return Err(Error::new(ErrorCode::AuthenticationFailed, "no credentials were presented"));
            }
        };
        let left =
            wire::timeout(&self.parts.headers).map(|given| given.saturating_sub(self.arrived.elapsed()));
        let request = ForwardedRequest {
            path: self.parts.uri.path().to_owned(),
            credentials: Some(credentials),
            remote_ip: source.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            user_agent: source.user_agent,
            correlation_id: source.correlation_id,
            body: self.body.clone(),
            // 0 would stand for no limit.
            timeout_ms: left.map_or(0, |left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)),
            tenant_id: self.caller.tenant().to_string(),
            tenant_revision: rights.map_or(0, |view| view.revision.0),
            platform_revision: rights.map_or(0, |view| view.platform_revision.0),
        };
        Ok(PeerAsk { ask: Some(Ask::Request(request)) }.encode_to_vec().into())
    }

    fn place(&self) -> Place {
        let Context { entropy, calls, .. } = &self.gateway.context;
        place(self.ownership(), self.about, entropy, |session, within| calls.runs_within(session, within))
    }

    fn ownership(&self) -> &Ownership {
        &self.gateway.context.ownership
    }

    fn rights(&self) -> Option<Arc<View>> {
        self.gateway.context.views.peek(self.caller.tenant())
    }

    fn action(&self) -> String {
        self.parts.extensions.get::<Operation>().map(|operation| operation.action.clone()).unwrap_or_default()
    }

    fn refusal(&self, error: Error) -> Response {
        let error = error.correlated(&self.caller.source().correlation_id);
        Status::from(error).into_http()
    }

    fn count(&self, outcome: &str) {
        self.gateway.metrics.forwarded.with_label_values(&[outcome]).inc();
    }
}

impl Gateway {
    /// Tells whether the caller's rights may be others than they were.
    pub(super) fn changed(&self, caller: &Caller, before: Option<&Arc<View>>) -> bool {
        let now = self.context.views.peek(caller.tenant());
        match (before, now) {
            (Some(before), Some(now)) => !before.same_rights(&now),
            _ => true,
        }
    }

    /// Records that an answer did not reach the caller, and returns what the caller hears instead.
    pub(super) async fn withhold(&self, caller: &Caller, action: &str, error: Error) -> Error {
        self.context.access.refuse(caller, action, "forwarded answer", error).await
    }
}

fn unreachable() -> Error {
    Error::new(ErrorCode::ServiceUnavailable, "the node of the session can't be reached at the moment")
        .retry_after(Duration::from_millis(500))
        .remedy("ask again; the session is taken over within seconds")
}
