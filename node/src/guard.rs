use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use aesp_call::{Authenticator, Source};
use aesp_proto::{Access, Entropy, Error, ErrorCode, Id, Operation, Operations, kind};
use axum::{body::Body, response::Response};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, header};
use tonic::Status;
use tower::{Layer, Service};

use crate::tls::PeerInfo;

const CORRELATION_HEADER: &str = "x-correlation-id";

/// Stands before every RPC: finds the operation that its descriptor declares, authenticates, and hands both to the
/// service in the request's extensions. An RPC without an operation is not served.
#[derive(Clone)]
pub(crate) struct Guard {
    operations: Arc<Operations>,
    authenticator: Authenticator,
    entropy: Entropy,
}

impl Guard {
    pub(crate) fn new(authenticator: Authenticator, entropy: Entropy) -> Self {
        Self { operations: Arc::new(Operations::load()), authenticator, entropy }
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
                if peer.identity.is_none() {
                    let error =
                        Error::new(ErrorCode::CertificateInvalid, "a Runtime needs a client certificate")
                            .remedy("have an administrator issue and register one: aesp runtime register");
                    return Err(self.authenticator.refused(error, &source, "runtime.connect"));
                }
            }
            Access::Authorized => {
                let caller = match (bearer(request.headers()), &peer.identity) {
                    (Some(token), _) => self.authenticator.by_token(token, source.clone()).await?,
                    (None, Some(identity)) => {
                        self.authenticator.by_certificate(&identity.identity, source.clone()).await?
                    }
                    (None, None) => {
                        let error = Error::new(ErrorCode::AuthenticationFailed, "no credentials were presented")
                            .remedy("send `authorization: Bearer <access token>`, or connect with a bound certificate");
                        return Err(self.authenticator.refused(error, &source, "none"));
                    }
                };
                request.extensions_mut().insert(caller);
            }
        }
        request.extensions_mut().insert(source);
        request.extensions_mut().insert(operation);
        Ok(())
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

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
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
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
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
        let mut inner = std::mem::replace(&mut self.inner, replacement);
        Box::pin(async move {
            match guard.admit(&mut request).await {
                Ok(()) => inner.call(request).await,
                Err(error) => {
                    tracing::debug!(code = error.code().as_str_name(), "request refused at the gateway");
                    Ok(Status::from(error).into_http())
                }
            }
        })
    }
}
