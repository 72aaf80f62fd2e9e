//! The ways in which sinks take events.

mod elasticsearch;
mod objects;
mod otlp;
mod splunk;
mod syslog;
mod webhook;

use std::sync::Arc;

use aesp_outbound::{Failure, LateSecret};
use aesp_proto::{Clock, Entropy, v1::AuditEvent};
use async_trait::async_trait;
use bytes::Bytes;

use crate::{Config, Error, Kind, delivery::Receipt, parcel::Parcel};

/// A way to a sink.
#[async_trait]
pub(crate) trait Transport: Send + Sync + 'static {
    /// Writes an event in the sink's format.
    fn encode(&self, event: &AuditEvent) -> Bytes;

    /// Sends parcels, in their order, and waits until the sink has confirmed that it has them. In bounded time.
    async fn deliver(&self, parcels: &[Arc<Parcel>]) -> Result<Receipt, Failure>;
}

/// What transports are made of, beside the configuration.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) secret: Arc<LateSecret>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    /// Names the node in events.
    pub(crate) node: String,
}

pub(crate) fn setup(config: &Config, what: impl Into<String>) -> Error {
    Error::Setup { sink: config.name.clone(), what: what.into() }
}

/// Makes the way to a sink.
///
/// # Errors
/// [`Error::Setup`] if a file of the configuration can't be used.
pub(crate) fn open(config: &Config, means: Means) -> Result<Arc<dyn Transport>, Error> {
    let failed = |what: String| setup(config, what);
    Ok(match config.kind {
        Kind::Syslog => Arc::new(syslog::Syslog::new(config, means).map_err(failed)?),
        Kind::Webhook => Arc::new(webhook::Webhook::new(config, means).map_err(failed)?),
        Kind::Splunk => Arc::new(splunk::Splunk::new(config, means).map_err(failed)?),
        Kind::Elasticsearch => Arc::new(elasticsearch::Elasticsearch::new(config, means).map_err(failed)?),
        Kind::Objects => Arc::new(objects::ObjectFiles::new(config, means).map_err(failed)?),
        Kind::Otlp => Arc::new(otlp::Otlp::new(config, means).map_err(failed)?),
    })
}
