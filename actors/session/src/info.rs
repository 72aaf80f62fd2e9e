use std::{collections::BTreeMap, time::Duration};

use aesp_proto::{
    PrincipalId, SessionId, TenantId, Timestamp,
    v1::{self, SessionStatus},
};

use crate::rows::{SessionRow, Status};

/// How long outcomes are kept after their session's end.
pub(crate) const KEEP: Duration = Duration::from_secs(24 * 3_600);

/// A session as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Names it.
    pub id: SessionId,
    /// For life.
    pub tenant: TenantId,
    /// For life.
    pub principal: PrincipalId,
    /// Whether it lives.
    pub status: SessionStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ends unless it is renewed.
    pub expires_at: Timestamp,
    /// How long a renewal lasts.
    pub ttl: Duration,
    /// Calls that run in it now, as far as this node knows.
    pub calls_in_flight: u32,
    /// Its creator's notes.
    pub metadata: BTreeMap<String, String>,
}

impl SessionInfo {
    pub(crate) fn new(row: &SessionRow, calls_in_flight: u32, now: Timestamp) -> Self {
        let status = match row.status {
            Status::Active if now < row.expires_at => SessionStatus::Active,
            Status::Active | Status::Expired => SessionStatus::Expired,
            Status::Destroyed => SessionStatus::Destroyed,
        };
        Self {
            id: row.id,
            tenant: row.tenant,
            principal: row.principal,
            status,
            created_at: row.created_at,
            expires_at: row.expires_at,
            ttl: Duration::from_millis(row.ttl_ms),
            calls_in_flight,
            metadata: row.metadata.clone(),
        }
    }

    /// Returns until when the outcomes of its calls are kept at least, if it is not renewed.
    #[must_use]
    pub fn outcomes_kept_until(&self) -> Timestamp {
        self.expires_at.plus(KEEP)
    }
}

impl From<SessionInfo> for v1::Session {
    fn from(info: SessionInfo) -> Self {
        Self {
            session_id: info.id.to_string(),
            tenant_id: info.tenant.to_string(),
            principal_id: info.principal.to_string(),
            status: info.status.into(),
            created_at_ms: info.created_at.0,
            expires_at_ms: info.expires_at.0,
            ttl_seconds: u32::try_from(info.ttl.as_secs()).unwrap_or(u32::MAX),
            calls_in_flight: info.calls_in_flight,
            metadata: info.metadata.into_iter().collect(),
        }
    }
}
