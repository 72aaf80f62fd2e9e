use aesp_proto::{PrincipalId, Timestamp};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{AuditKeyName, AuditPartition, AuditSubject, derive::Secret};
use crate::{Error, Kind, Row, seal::random_key};

/// The key of a partition of a tenant's audit log.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct AuditPartitionKey {
    key: String,
}

/// The key of a subject of a tenant's audit log.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct AuditSubjectKey {
    key: String,
}

impl AuditPartitionKey {
    pub(super) fn draw() -> Result<(Self, Secret), Error> {
        let secret = random_key()?;
        Ok((Self { key: BASE64.encode(secret.as_slice()) }, secret))
    }

    pub(super) fn secret(&self) -> Result<Secret, Error> {
        secret(&self.key)
    }
}

impl AuditSubjectKey {
    pub(super) fn draw() -> Result<(Self, Secret), Error> {
        let secret = random_key()?;
        Ok((Self { key: BASE64.encode(secret.as_slice()) }, secret))
    }

    pub(super) fn secret(&self) -> Result<Secret, Error> {
        secret(&self.key)
    }
}

fn secret(text: &str) -> Result<Secret, Error> {
    let damaged = || Error::damaged_row("an audit key has the wrong form");
    let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).map_err(|_| damaged())?);
    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| damaged())
}

impl Row for AuditPartitionKey {
    const KIND: Kind = Kind::AUDIT_PARTITION_KEY;
    type Key = AuditPartition;
}

impl Row for AuditSubjectKey {
    const KIND: Kind = Kind::AUDIT_SUBJECT_KEY;
    type Key = AuditSubject;
}

/// What stays of a key that was destroyed: when, by whom, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditDestruction {
    /// When.
    pub at: Timestamp,
    /// Who asked for it; nobody where a rule did.
    pub by: Option<PrincipalId>,
    /// By which rule, as people read it.
    pub rule: String,
    /// What was said of it.
    pub reason: String,
    /// When the log was gone through for what became unreadable; not at all yet.
    pub swept_at: Option<Timestamp>,
    /// How many events became unreadable, once that is known.
    pub events: u64,
}

impl Row for AuditDestruction {
    const KIND: Kind = Kind::AUDIT_DESTRUCTION;
    type Key = AuditKeyName;
}
