//! The sealed audit logs over HTTPS, laid out as C2SP tlog-tiles says, for callers with the right to prove:
//! the platform log below `/audit/platform/`, for every caller who is known, or for everybody where the configuration says so;
//! `/audit/<tenant>/checkpoint`, `/audit/<tenant>/tile/<level>/<index>[.p/<width>]`, `/audit/<tenant>/tile/entries/<index>[.p/<width>]`.

use aesp_call::Granted;
use aesp_merkle::{Coordinates, TILE_WIDTH};
use aesp_proto::{
    Error, ErrorCode,
    v1::{EventType, Outcome},
};
use aesp_transparency::{Error as LogError, Log};
use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{guard::Guard, services::Context, tls::PeerInfo};

const ACTION: &str = "audit.prove";
/// A whole tile never changes; no cache that others use may keep it.
const WHOLE: &str = "private, max-age=31536000, immutable";
const CHANGES: &str = "no-store";

/// Serves the logs of all tenants, each to those who may, and the platform log, to everybody if it is `public`.
pub(crate) fn router(context: Context, guard: Guard, public: bool) -> Router {
    Router::new()
        .route("/audit/platform/{*path}", get(serve_platform))
        .route("/audit/{tenant}/{*path}", get(serve))
        .with_state(Front { context, guard, public })
}

#[derive(Clone)]
struct Front {
    context: Context,
    guard: Guard,
    /// Whether the platform log is everybody's.
    public: bool,
}

/// What goes out.
struct Part {
    content_type: &'static str,
    cache: &'static str,
    bytes: Bytes,
}

async fn serve(
    State(front): State<Front>,
    Path((tenant, path)): Path<(String, String)>,
    Extension(peer): Extension<PeerInfo>,
    headers: HeaderMap,
) -> Response {
    match front.answer(&tenant, &path, &peer, &headers).await {
        Ok(part) => {
            let headers = [(header::CONTENT_TYPE, part.content_type), (header::CACHE_CONTROL, part.cache)];
            (headers, part.bytes).into_response()
        }
        Err(error) => refusal(&error),
    }
}

async fn serve_platform(
    State(front): State<Front>,
    Path(path): Path<String>,
    Extension(peer): Extension<PeerInfo>,
    headers: HeaderMap,
) -> Response {
    match front.platform(&path, &peer, &headers).await {
        Ok(part) => {
            let headers = [(header::CONTENT_TYPE, part.content_type), (header::CACHE_CONTROL, part.cache)];
            (headers, part.bytes).into_response()
        }
        Err(error) => refusal(&error),
    }
}

impl Front {
    /// The platform log has heads of logs with random names: nothing in it is anybody's, so that reading it is on no record.
    async fn platform(&self, path: &str, peer: &PeerInfo, headers: &HeaderMap) -> Result<Part, Error> {
        if !self.public {
            self.guard.authenticate(headers, peer).await?;
        }
        let log = self.context.witnessing.log();
        let part = if path == "checkpoint" {
            let note = log.checkpoint().await.map_err(found)?;
            Part { content_type: "text/plain; charset=utf-8", cache: CHANGES, bytes: note.into() }
        } else {
            let unknown =
                |error: aesp_merkle::InvalidPath| Error::new(ErrorCode::NotFound, error.to_string());
            let resource = Coordinates::parse(path).map_err(unknown)?;
            let bytes = log.resource(resource).await.map_err(found)?;
            let cache = if resource.width == TILE_WIDTH { WHOLE } else { CHANGES };
            Part { content_type: "application/octet-stream", cache, bytes: bytes.into() }
        };
        // INVARIANT R1: a node that lost its place while it read hands nothing out.
        self.guard.check_lease()?;
        Ok(part)
    }

    async fn answer(
        &self,
        tenant: &str,
        path: &str,
        peer: &PeerInfo,
        headers: &HeaderMap,
    ) -> Result<Part, Error> {
        let caller = self.guard.authenticate(headers, peer).await?;
        let granted = self.context.grant_named(&caller, ACTION, tenant).await?;
        let log = Log::new(self.context.store.clone(), granted.tenant());
        let part = self.part(&log, &granted, path).await;
        self.context.access.still(&granted).await?;
        // INVARIANT R1: a node that lost its place while it read hands nothing out.
        self.guard.check_lease()?;
        part
    }

    async fn part(&self, log: &Log, granted: &Granted, path: &str) -> Result<Part, Error> {
        if path == "checkpoint" {
            let note = log.checkpoint().await.map_err(found)?;
            self.note(granted, "audit log checkpoint").await?;
            let content_type = "text/plain; charset=utf-8";
            return Ok(Part { content_type, cache: CHANGES, bytes: note.into() });
        }
        let unknown = |error: aesp_merkle::InvalidPath| Error::new(ErrorCode::NotFound, error.to_string());
        let resource = Coordinates::parse(path).map_err(unknown)?;
        let bytes = log.resource(resource).await.map_err(found)?;
        // Tiles are hashes. Entries are events, whose reading is itself recorded.
        if resource.entries {
            self.note(granted, "audit log entries").await?;
        }
        let cache = if resource.width == TILE_WIDTH { WHOLE } else { CHANGES };
        Ok(Part { content_type: "application/octet-stream", cache, bytes: bytes.into() })
    }

    async fn note(&self, granted: &Granted, what: &str) -> Result<(), Error> {
        let event = granted.event(EventType::DataAccess, Outcome::Success, what);
        Ok(self.context.recorder.append(vec![event]).await?)
    }
}

/// What a log has not got is not there.
fn found(error: LogError) -> Error {
    match error {
        LogError::Empty | LogError::BeyondEnd { .. } => Error::new(ErrorCode::NotFound, error.to_string()),
        error => error.into(),
    }
}

fn refusal(error: &Error) -> Response {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let details = error.to_details();
    let body = Json(json!({
        "code": error.code().as_str_name(),
        "message": error.message(),
        "correlation_id": details.correlation_id,
        "next": details.remediation_steps,
    }));
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(CHANGES));
    response
}
