use std::{io::Write, sync::Arc};

use aesp_audit::Position;
use aesp_backup::{Credentials, Error as StoreError, Files, Target};
use aesp_outbound::{Cause, Failure};
use aesp_proto::{TenantId, Timestamp, v1::AuditEvent};
use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use flate2::{Compression, GzBuilder};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use zeroize::Zeroizing;

use super::{Means, Transport};
use crate::{Config, delivery::Receipt, format, parcel::Parcel};

/// Files of JSON Lines, compressed with gzip, on an object store: `TENANT/YYYY/MM/DD/FIRST-LAST-DIGEST.jsonl.gz` below the target, with the
/// places of the first and the last event in the tenant's log and the start of the content's SHA-256. Each has one tenant's events. The
/// name follows from the content, so that a batch that is sent again finds its file written already; each is written once and read back.
pub(super) struct ObjectFiles {
    config: Config,
    means: Means,
}

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]/[month]/[day]");

impl ObjectFiles {
    pub(super) fn new(config: &Config, means: Means) -> Result<Self, String> {
        let files = Self { config: config.clone(), means };
        files.target(Credentials::default())?;
        Ok(files)
    }

    fn target(&self, credentials: Credentials) -> Result<Target, String> {
        let target = Target::parse(&self.config.target, credentials).map_err(words)?;
        let target = target.with_patience(self.config.timeout());
        match self.config.object_lock_days {
            0 => Ok(target),
            days => target.with_object_lock(days).map_err(words),
        }
    }

    /// Opens the store with the newest secret and authorities.
    async fn open(&self) -> Result<Files, Failure> {
        let refused = |why: String| Failure::new(Cause::Refused, why);
        let roots = self.config.ca.as_deref().map(std::fs::read_to_string).transpose();
        let secret = self.means.secret.newest().await?;
        let credentials = Credentials {
            id: Some(self.config.user.clone()).filter(|id| !id.is_empty()),
            secret: secret.map(|secret| Zeroizing::new(secret.expose().to_owned())),
            roots_pem: roots.map_err(|error| refused(format!("ca can't be read: {error}")))?,
            ..Credentials::default()
        };
        let target = self.target(credentials).map_err(refused)?;
        Files::open(&target).map_err(failure)
    }
}

fn name(tenant: TenantId, at: Timestamp, first: &Position, last: &Position, content: &[u8]) -> String {
    let day = OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1_000)).ok();
    let day = day.and_then(|day| day.format(DAY).ok()).unwrap_or_else(|| "unknown".into());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    let digest = HEXLOWER.encode(&digest.as_ref()[..8]);
    format!("{tenant}/{day}/{}-{}-{digest}.jsonl.gz", HEXLOWER.encode(first), HEXLOWER.encode(last))
}

fn compressed(parcels: &[Arc<Parcel>]) -> std::io::Result<Vec<u8>> {
    // Without a time, so that the same events give the same bytes.
    let mut out = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    for parcel in parcels {
        out.write_all(&parcel.bytes)?;
        out.write_all(b"\n")?;
    }
    out.finish()
}

fn failure(error: StoreError) -> Failure {
    let cause = match &error {
        StoreError::Full => Cause::Busy,
        StoreError::Refused(_) | StoreError::Target(_) | StoreError::Missing { .. } => Cause::Refused,
        StoreError::Unavailable(_) => Cause::Unreachable,
        _ => Cause::Garbled,
    };
    Failure::new(cause, words(error))
}

fn words(error: StoreError) -> String {
    match error {
        StoreError::Target(what) => what,
        error => error.to_string(),
    }
}

#[async_trait]
impl Transport for ObjectFiles {
    fn encode(&self, event: &AuditEvent) -> Bytes {
        format::json(event)
    }

    async fn deliver(&self, parcels: &[Arc<Parcel>]) -> Result<Receipt, Failure> {
        let files = self.open().await?;
        let mut receipt = Receipt::default();
        for run in parcels.chunk_by(|a, b| a.tenant == b.tenant) {
            let (first, last) = (&run[0], &run[run.len() - 1]);
            let written = async {
                let content =
                    compressed(run).map_err(|error| Failure::new(Cause::Content, error.to_string()))?;
                let name = name(first.tenant, first.at, &first.position, &last.position, &content);
                if files.create(&name, content.into()).await.map_err(failure)? {
                    return Ok(());
                }
                Err(Failure::new(Cause::Garbled, format!("{name} has another content than it was given")))
            };
            match written.await {
                Ok(()) => receipt.settled += run.len(),
                Err(failure) if receipt.settled == 0 => return Err(failure),
                Err(failure) => {
                    receipt.rest = Some(failure);
                    break;
                }
            }
        }
        Ok(receipt)
    }
}
