//! What the generated clients send through.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use aesp_proto::Error;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::{Code, Status, body::Body};
use tower::{Service, ServiceExt};
use tracing::debug;

use crate::{credentials::Authenticator, pool::Pool};

/// An authenticated way to the Host, over whichever node answers. Cheap to clone.
///
/// A request goes to the next node when none was connected; once sent, it is not repeated here, because only the caller knows
/// whether it may be. A node that answers `UNAVAILABLE` is left for the requests that follow.
#[derive(Clone, Debug)]
pub struct Channel(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: Pool,
    authenticator: Authenticator,
}

impl Channel {
    pub(crate) fn new(pool: Pool, authenticator: Authenticator) -> Self {
        Self(Arc::new(Shared { pool, authenticator }))
    }

    pub(crate) fn rejections(&self) -> u64 {
        self.0.authenticator.rejections()
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        let Shared { pool, authenticator } = &*self.0;
        let header = authenticator.header(pool).await?;
        if let Some(header) = &header {
            request.headers_mut().insert(AUTHORIZATION, header.clone());
        }
        let connection = pool.connection().await?;
        let mut channel = connection.channel();
        let answer = match channel.ready().await {
            Ok(ready) => ready.call(request).await,
            Err(error) => Err(error),
        };
        let response = answer.map_err(|e| {
            debug!(error = %e, "connection broke during a request");
            pool.leave(&connection);
            connection.broken().because(e)
        })?;
        match (code(response.headers()), header) {
            (Some(Code::Unavailable), _) => pool.leave(&connection),
            (Some(Code::Unauthenticated), Some(header)) => authenticator.rejected(&header),
            _ => {}
        }
        Ok(response)
    }
}

/// Returns the gRPC code of an answer that is nothing but a refusal.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move { channel.send(request).await.map_err(Status::from) })
    }
}
