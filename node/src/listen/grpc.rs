use std::{io, time::Duration};

use prometheus::Registry;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use super::{Health, Readiness};
use crate::{config::Limits, tls::Connection};

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_BYTES: u32 = 64 << 10;

/// Adds health and reflection, which tell nothing that is not public, to the services.
///
/// # Errors
/// When the descriptors can't be decoded, or the registry has the metric already.
pub(crate) fn with_public(
    routes: Routes,
    readiness: Readiness,
    registry: &Registry,
) -> anyhow::Result<(Routes, Health)> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(aesp_proto::descriptor_set())
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let health = Health::new(reporter, readiness, registry)?;
    Ok((routes.add_service(health_service).add_service(reflection), health))
}

/// Serves until `stop`; then takes no new streams and returns when the last one has ended.
pub(crate) async fn serve(
    routes: Routes,
    incoming: ReceiverStream<io::Result<Connection>>,
    limits: Limits,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_connection_age(Duration::from_secs(limits.connection_age_seconds.into()))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await?;
    Ok(())
}
