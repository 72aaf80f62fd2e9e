use std::collections::BTreeMap;

use aesp_proto::{PrincipalId, SessionId, TenantId, Timestamp};
use aesp_storage::{KeyError, KeyReader, KeyWriter, Kind, Row, RowKey};
use serde::{Deserialize, Serialize};

/// A session as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) id: SessionId,
    pub(crate) tenant: TenantId,
    pub(crate) principal: PrincipalId,
    pub(crate) status: Status,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// What no renewal goes beyond.
    pub(crate) latest_end: Timestamp,
    pub(crate) ttl_ms: u64,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) metadata: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Active,
    Expired,
    Destroyed,
}

// Rows of the kind SESSION come in three sorts, told by the first byte of the key.
const SESSION: u8 = 0;
const EXPIRY: u8 = 1;
const PURGE: u8 = 2;

/// Where a session lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionKey(pub(crate) SessionId);

impl SessionKey {
    pub(crate) const PREFIX: [u8; 1] = [SESSION];
}

impl RowKey for SessionKey {
    fn write(&self, out: &mut KeyWriter) {
        out.part(&SESSION).part(&self.0);
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        match u8::read(input)? {
            SESSION => SessionId::read(input).map(Self),
            _ => Err(KeyError::BadValue),
        }
    }
}

impl Row for SessionRow {
    const KIND: Kind = Kind::SESSION;
    type Key = SessionKey;
}

/// Says when something is due for a session. Every session that has not ended has one [`Due::Expiry`], every ended one that
/// is still stored one [`Due::Purge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Expiry(Timestamp, SessionId),
    Purge(Timestamp, SessionId),
}

impl Due {
    pub(crate) const EXPIRIES: [u8; 1] = [EXPIRY];
    pub(crate) const PURGES: [u8; 1] = [PURGE];

    pub(crate) fn at(self) -> Timestamp {
        let (Self::Expiry(at, _) | Self::Purge(at, _)) = self;
        at
    }

    pub(crate) fn session(self) -> SessionId {
        let (Self::Expiry(_, session) | Self::Purge(_, session)) = self;
        session
    }
}

impl RowKey for Due {
    fn write(&self, out: &mut KeyWriter) {
        let sort = match self {
            Self::Expiry(..) => EXPIRY,
            Self::Purge(..) => PURGE,
        };
        out.part(&sort).part(&self.at()).part(&self.session());
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        match u8::read(input)? {
            EXPIRY => Ok(Self::Expiry(RowKey::read(input)?, RowKey::read(input)?)),
            PURGE => Ok(Self::Purge(RowKey::read(input)?, RowKey::read(input)?)),
            _ => Err(KeyError::BadValue),
        }
    }
}

/// All that matters is in the key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DueRow {}

impl Row for DueRow {
    const KIND: Kind = Kind::SESSION;
    // Times and random ids.
    const SEALED: bool = false;
    type Key = Due;
}
