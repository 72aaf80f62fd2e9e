use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use aesp_call::{Authenticator, Caller, Source};
use aesp_cluster::Lease;
use aesp_identity::Tokens;
use aesp_proto::{Access, Clock, Entropy, Error, ErrorCode, Id, Incarnation, Operation, Operations, kind};
use axum::{body::Body, response::Response};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, header};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::{
    forward::{Forward, Forwarded},
    services::Context,
    tls::PeerInfo,
};

/// When a node without a place in its cluster may have one again.
const NO_PLACE: Duration = Duration::from_millis(500);

pub(crate) const CORRELATION_HEADER: &str = "x-correlation-id";

/// Stands before every RPC: finds the operation that its descriptor declares, authenticates, and hands both to the
/// service in the request's extensions. An RPC without an operation is not served.
#[derive(Clone)]
pub(crate) struct Guard {
    operations: Arc<Operations>,
    authenticator: Authenticator,
    tokens: Arc<Tokens>,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    lease: Lease,
    forward: Forward,
}

impl Guard {
    pub(crate) fn new(context: &Context, forward: Forward) -> Self {
        Self {
            operations: Arc::new(Operations::load()),
            authenticator: context.authenticator.clone(),
            tokens: Arc::clone(&context.tokens),
            clock: Arc::clone(&context.clock),
            entropy: context.entropy.clone(),
            lease: context.cluster.lease(),
            forward,
        }
    }

    /// Refuses while this node has no place in its cluster: it knows neither whose anything is nor which rights are in force.
    pub(crate) fn check_lease(&self) -> Result<(), Error> {
        if self.lease.is_held() {
            return Ok(());
        }
        Err(Error::new(ErrorCode::ServiceUnavailable, "this node has no place in its cluster at the moment")
            .retry_after(NO_PLACE)
            .remedy("ask again, at another node"))
    }

    async fn admit(&self, request: &mut Request<Body>) -> Result<(), Error> {
        let path = request.uri().path();
        // Health and reflection tell nothing that is not public.
        if path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.") {
            return Ok(());
        }
        let operation: Operation = self
            .operations
            .get(path)
            .cloned()
            .ok_or_else(|| Error::new(ErrorCode::NotFound, "there is no such RPC"))?;
        let peer = request.extensions().get::<PeerInfo>().cloned().unwrap_or_default();
        let source = self.source(request.headers(), &peer);
        match operation.access {
            Access::Public => {}
            Access::Peer => {
                let error = Error::new(ErrorCode::CertificateInvalid, "peers have a listener of their own")
                    .remedy("connect to the peer address of the node, with the certificate of a node");
                return Err(self.authenticator.refused(error, &source, "peer.link"));
            }
            Access::Runtime => {
                self.check_lease().map_err(|error| error.correlated(&source.correlation_id))?;
                if peer.identity.is_none() {
                    let error =
                        Error::new(ErrorCode::CertificateInvalid, "a Runtime needs a client certificate")
                            .remedy("have an administrator issue and register one: aesp runtime register");
                    return Err(self.authenticator.refused(error, &source, "runtime.connect"));
                }
            }
            Access::Authorized => {
                self.check_lease().map_err(|error| error.correlated(&source.correlation_id))?;
                let forwarded = request.extensions().get::<Forwarded>();
                let vouched = forwarded.and_then(|by| Some((by.gateway, by.voucher.clone()?)));
                let caller = match (bearer(request.headers()), vouched) {
                    (None, Some((gateway, word))) => self.by_voucher(gateway, &word, &source).await?,
                    (token, _) => self.by_credentials(token, &peer, &source).await?,
                };
                request.extensions_mut().insert(caller);
            }
        }
        request.extensions_mut().insert(source);
        request.extensions_mut().insert(operation);
        Ok(())
    }

    /// Authenticates a request of another protocol, as one for an operation that must be authorized. What it reads goes out only while
    /// [`Guard::check_lease`] still succeeds.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap, peer: &PeerInfo) -> Result<Caller, Error> {
        let source = self.source(headers, peer);
        self.check_lease().map_err(|error| error.correlated(&source.correlation_id))?;
        self.by_credentials(bearer(headers), peer, &source).await
    }

    async fn by_credentials(
        &self,
        token: Option<&str>,
        peer: &PeerInfo,
        source: &Source,
    ) -> Result<Caller, Error> {
        match (token, &peer.identity) {
            (Some(token), _) => self.authenticator.by_token(token, source.clone()).await,
            (None, Some(identity)) => {
                self.authenticator.by_certificate(&identity.identity, source.clone()).await
            }
            (None, None) => {
                let error = Error::new(ErrorCode::AuthenticationFailed, "no credentials were presented")
                    .remedy(
                        "send `authorization: Bearer <access token>`, or connect with a bound certificate",
                    );
                Err(self.authenticator.refused(error, source, "none"))
            }
        }
    }

    /// Authenticates the holder of a certificate that another node saw, by that node's word.
    async fn by_voucher(&self, gateway: Incarnation, word: &str, source: &Source) -> Result<Caller, Error> {
        let vouched = self.tokens.vouched(word, gateway, self.clock.now()).map_err(Error::from);
        let certificate = vouched.map_err(|error| self.authenticator.refused(error, source, "voucher"))?;
        self.authenticator.by_certificate(&certificate, source.clone()).await
    }

    /// Has an admitted request answered.
    ///
    /// INVARIANT R1: a node that lost its place while it worked hands nothing out. Parts of streams are checked one by one.
    async fn answer<S>(&self, request: Request<Body>, inner: S) -> Result<Response, Infallible>
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let authorized = request.extensions().get::<Operation>().map(|operation| operation.access);
        let response = self.forward.pass(request, inner).await?;
        if authorized == Some(Access::Authorized)
            && let Err(error) = self.check_lease()
        {
            return Ok(Status::from(error).into_http());
        }
        Ok(response)
    }

    fn source(&self, headers: &HeaderMap, peer: &PeerInfo) -> Source {
        let text = |name: &str, most: usize| -> Option<String> {
            let value = headers.get(name)?.to_str().ok()?;
            (!value.is_empty()).then(|| value.chars().take(most).collect())
        };
        Source {
            ip: peer.remote.map(|address| address.ip()),
            user_agent: text(header::USER_AGENT.as_str(), 256).unwrap_or_default(),
            correlation_id: text(CORRELATION_HEADER, 64)
                .unwrap_or_else(|| Id::<kind::Request>::random(&self.entropy).to_string()),
        }
    }
}

/// Returns the token that a request brings, if it does.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

/// Gives an error of the framework, which met bytes that are no request, the form of the Host's own errors.
fn typed(response: Response, correlation_id: &str) -> Response {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let unreadable = matches!(
        status.code(),
        Code::Internal | Code::OutOfRange | Code::ResourceExhausted | Code::Unimplemented
    );
    // The Host's own errors have details.
    if !unreadable || !status.details().is_empty() {
        return response;
    }
    let error = Error::invalid(format!("the request can't be read: {}", status.message())).remedy(
        "send one gRPC message of the RPC's type, uncompressed or with gzip, within limits.message_bytes",
    );
    Status::from(error.correlated(correlation_id)).into_http()
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }
}

/// A service behind the [`Guard`].
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let guard = self.guard.clone();
        // The clone takes the place of the one that was polled ready.
        let replacement = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, replacement);
        Box::pin(async move {
            match guard.admit(&mut request).await {
                Ok(()) => {
                    let source = request.extensions().get::<Source>().cloned();
                    let response = guard.answer(request, inner).await?;
                    // Health and reflection speak for themselves.
                    Ok(match source {
                        Some(source) => typed(response, &source.correlation_id),
                        None => response,
                    })
                }
                Err(error) => {
                    tracing::debug!(code = error.code().as_str_name(), "request refused at the gateway");
                    Ok(Status::from(error).into_http())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_framework_can_not_read_is_an_invalid_request() {
        for code in [Code::Internal, Code::OutOfRange, Code::Unimplemented] {
            let response = typed(Status::new(code, "length too large").into_http(), "corr");
            let status = Status::from_header_map(response.headers()).expect("is an error");
            let error = Error::from_status(&status);
            assert_eq!(error.code(), ErrorCode::InvalidRequest);
            assert!(error.message().contains("length too large") && error.remediation().is_some());
        }
    }

    #[test]
    fn what_the_host_says_itself_stays_as_it_is() {
        let own = Error::new(ErrorCode::InternalError, "the Host could not").correlated("own");
        let response = typed(Status::from(own).into_http(), "corr");
        let status = Status::from_header_map(response.headers()).expect("is an error");
        assert_eq!(Error::from_status(&status).code(), ErrorCode::InternalError);
        let other = typed(Status::new(Code::Unavailable, "away").into_http(), "corr");
        assert_eq!(Status::from_header_map(other.headers()).expect("is an error").code(), Code::Unavailable);
        assert!(Status::from_header_map(typed(Response::new(Body::empty()), "corr").headers()).is_none());
    }

    #[test]
    fn a_token_is_taken_from_a_bearer_header_only() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        headers.insert(header::AUTHORIZATION, "Basic abc".parse().expect("is a value"));
        assert_eq!(bearer(&headers), None);
        headers.insert(header::AUTHORIZATION, "Bearer abc ".parse().expect("is a value"));
        assert_eq!(bearer(&headers), Some("abc"));
    }
}
