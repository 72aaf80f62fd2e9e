use aesp_proto::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{KeyVersion, Kind, Row};

/// How far the tenants' keys are wrapped under a version of the master key. Lies with the platform, in the clear: it has nothing but
/// numbers and names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKeyRewrap {
    /// Which version.
    pub version: String,
    /// The last tenant that was looked at.
    pub next: Option<TenantId>,
    /// Tenants whose keys were wrapped anew.
    pub rewrapped: u64,
    /// Tenants whose keys can't be opened.
    pub lost: u64,
    /// Whether all were looked at.
    pub done: bool,
    /// When it was last written.
    pub at: Timestamp,
}

impl Row for MasterKeyRewrap {
    const KIND: Kind = Kind::KEY_REWRAP;
    const SEALED: bool = false;
    type Key = ();
}

impl MasterKeyRewrap {
    /// Begins at the first tenant.
    #[must_use]
    pub fn begin(version: &KeyVersion, now: Timestamp) -> Self {
        Self { version: version.to_string(), next: None, rewrapped: 0, lost: 0, done: false, at: now }
    }
}
