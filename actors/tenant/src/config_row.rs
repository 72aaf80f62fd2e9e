use aesp_proto::{PrincipalId, Timestamp};
use aesp_storage::{Kind, Row};
use serde::{Deserialize, Serialize};

/// One version of a configuration value. Sealed, as every row; a secret is in here and nowhere else.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Counts from 1.
    pub(crate) version: u32,
    /// Nothing says that the default holds again.
    pub(crate) value: Option<String>,
    pub(crate) changed_at: Timestamp,
    pub(crate) changed_by: PrincipalId,
    pub(crate) comment: String,
}

/// The version that holds, by the key's name.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ConfigRow(pub(crate) Version);

impl Row for ConfigRow {
    const KIND: Kind = Kind::CONFIG;
    type Key = String;
}

/// Every version, by the key's name and the version.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct HistoryRow(pub(crate) Version);

impl Row for HistoryRow {
    const KIND: Kind = Kind::CONFIG_HISTORY;
    type Key = (String, u32);
}
