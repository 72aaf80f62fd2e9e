use axum::{
    Router,
    extract::RawQuery,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder, Registry, TextEncoder};

use super::Readiness;

/// Returns what the plain listener shows: metrics, and whether the process lives and wants work.
pub(crate) fn router(registry: Registry, readiness: Readiness) -> Router {
    let metrics = move || async move { metrics(&registry) };
    let ready = move |RawQuery(query): RawQuery| async move { ready(&readiness, query.as_deref()) };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
}

/// Says whether the node wants work and, where not, which component is not ready; `?verbose` lists them all.
fn ready(readiness: &Readiness, query: Option<&str>) -> (StatusCode, String) {
    let components = readiness.components();
    let (status, mut text) = match readiness.judge(&components) {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    };
    if query == Some("verbose") {
        for component in components {
            text += &match component.state {
                Ok(()) => format!("[+] {}\n", component.name),
                Err(why) => format!("[-] {}: {why}\n", component.name),
            };
        }
    }
    (status, text)
}

fn metrics(registry: &Registry) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics can't be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
