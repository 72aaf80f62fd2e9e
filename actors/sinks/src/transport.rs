//! The ways in which sinks take events.

mod answer;
mod elasticsearch;
mod http;
mod objects;
mod otlp;
mod splunk;
mod syslog;
mod webhook;

use std::sync::Arc;

use aesp_keys::{Secret, SecretRef, SecretText, Secrets};
use aesp_proto::{Clock, Entropy, v1::AuditEvent};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::{Cause, Config, Error, Kind, delivery::Receipt, failure::Failure, parcel::Parcel};

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

/// A sink's secret, if it has one. It is read when it is first needed, and followed from then on: a place of secrets that is away holds up
/// the sink and not the node.
pub(crate) struct LateSecret {
    secrets: Secrets,
    reference: Option<SecretRef>,
    followed: OnceCell<Secret>,
}

impl LateSecret {
    pub(crate) fn new(secrets: Secrets, reference: Option<SecretRef>) -> Self {
        Self { secrets, reference, followed: OnceCell::new() }
    }

    /// Returns the newest value, to be used at once and kept nowhere.
    async fn newest(&self) -> Result<Option<SecretText>, Failure> {
        let Some(reference) = &self.reference else { return Ok(None) };
        let followed = self.followed.get_or_try_init(|| self.secrets.follow(reference)).await;
        followed.map(|secret| Some(secret.newest())).map_err(|error| {
            let cause = if error.away { Cause::Unreachable } else { Cause::Refused };
            Failure::new(cause, error.to_string())
        })
    }

    /// As [`newest`](Self::newest), where there must be one.
    async fn needed(&self) -> Result<SecretText, Failure> {
        let newest = self.newest().await?;
        newest.ok_or_else(|| Failure::new(Cause::Refused, "its configuration has no secret"))
    }
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
