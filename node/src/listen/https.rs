use std::{io, sync::Arc, time::Duration};

use axum::{Extension, Router, http::header, response::IntoResponse, routing::get};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::tls::Connection;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long relying parties may keep the keys; a new key is published at least this long before it signs alone.
const KEYS_CACHE: &str = "public, max-age=60";

/// Returns what the HTTPS listener shows: the public signing keys and whether it is there.
pub(crate) fn router(jwks: Arc<dyn Fn() -> String + Send + Sync>) -> Router {
    let keys = move || async move {
        let headers =
            [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, KEYS_CACHE)];
        (headers, jwks()).into_response()
    };
    Router::new().route("/.well-known/jwks.json", get(keys)).route("/healthz", get(|| async { "ok\n" }))
}

/// Serves until `stop`; then returns when the running requests have been answered.
pub(crate) async fn serve(
    router: Router,
    mut incoming: ReceiverStream<io::Result<Connection>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let open = TaskTracker::new();
    while let Some(accepted) = tokio::select! {
        accepted = incoming.next() => accepted,
        () = stop.cancelled() => None,
    } {
        if let Ok(connection) = accepted {
            open.spawn(serve_connection(router.clone(), connection, stop.clone()));
        }
    }
    drop(incoming);
    open.close();
    open.wait().await;
    Ok(())
}

async fn serve_connection(router: Router, connection: Connection, stop: CancellationToken) {
    let router = router.layer(Extension(connection.peer().clone()));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(HEADER_TIMEOUT));
    let serving = builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let outcome = tokio::select! {
        outcome = &mut serving => outcome,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "https connection ended");
    }
}
