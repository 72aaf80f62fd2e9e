//! The ways in which receivers are told of alerts.

mod alertmanager;
mod email;
mod pagerduty;
mod webhook;

use std::sync::Arc;

use aesp_keys::Secrets;
use aesp_outbound::{Failure, LateSecret};
use aesp_proto::{Clock, Entropy, TenantId, Timestamp};
use async_trait::async_trait;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Alert, Error,
    config::{Kind, Receiver},
    note::Tell,
};

/// What a receiver is told.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) tenant: TenantId,
    pub(crate) group: String,
    pub(crate) alerts: Vec<(Alert, Tell)>,
}

/// A way to a receiver.
#[async_trait]
pub(crate) trait Transport: Send + Sync + 'static {
    /// Tells the receiver, and waits until it has confirmed that it knows. In bounded time.
    async fn deliver(&self, message: &Message) -> Result<(), Failure>;
}

/// What transports are made of, beside the configuration.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) secrets: Secrets,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    /// Names the node to receivers.
    pub(crate) node: String,
}

impl Means {
    fn secret(&self, receiver: &Receiver) -> LateSecret {
        LateSecret::new(self.secrets.clone(), receiver.secret.clone())
    }
}

/// Makes the way to a receiver.
///
/// # Errors
/// [`Error::Setup`] if a file of the configuration can't be used.
pub(crate) fn open(receiver: &Receiver, means: &Means) -> Result<Arc<dyn Transport>, Error> {
    let failed = |what: String| Error::Setup { receiver: receiver.name.clone(), what };
    Ok(match receiver.kind {
        Kind::Alertmanager => Arc::new(alertmanager::Alertmanager::new(receiver, means).map_err(failed)?),
        Kind::Pagerduty => Arc::new(pagerduty::Pagerduty::new(receiver, means).map_err(failed)?),
        Kind::Webhook => Arc::new(webhook::Webhook::new(receiver, means).map_err(failed)?),
        Kind::Email => Arc::new(email::Email::new(receiver, means).map_err(failed)?),
    })
}

/// Writes a time as RFC 3339 has it, in UTC.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}
