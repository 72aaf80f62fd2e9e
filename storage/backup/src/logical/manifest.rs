use std::collections::BTreeMap;

use aesp_proto::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// What stands before the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The cluster that the store was.
    pub cluster: String,
    /// The version of the rows. Of an engine whose snapshots end early, that of the last one that was read.
    pub version: u64,
    /// When it was exported.
    pub exported_at: Timestamp,
    /// What unwraps the tenants' keys.
    pub key_provider: String,
    /// Of an export of one tenant: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantHeader>,
    /// The key of the HMAC, wrapped; hexadecimal.
    pub(super) mac_key: String,
}

/// What an export of one tenant says of it in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantHeader {
    /// Which one.
    pub id: TenantId,
    /// The log epoch of the store that it comes from: its log goes on in a later one.
    pub log_epoch: u32,
    /// The public keys that verify its audit log; base 64.
    pub audit_keys: Vec<String>,
    /// The last signed checkpoint of its log there, which stays behind.
    pub checkpoint: Option<String>,
}

/// What stands after them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// All rows.
    pub rows: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// Tenants, the platform among them.
    pub tenants: u64,
    /// Rows by the code of their kind.
    pub rows_by_kind: BTreeMap<u16, u64>,
    /// HMAC-SHA-256 of every byte of the file before; hexadecimal.
    pub(super) mac: String,
}

/// Counts rows in the order of their keys.
#[derive(Default)]
pub(super) struct Count {
    pub(super) manifest: Manifest,
    last_tenant: Option<[u8; 16]>,
}

impl Count {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.manifest.rows += 1;
        self.manifest.bytes += (key.len() + value.len()) as u64;
        let Some((tenant, rest)) = key.split_first_chunk::<16>() else { return };
        if self.last_tenant != Some(*tenant) {
            self.manifest.tenants += 1;
            self.last_tenant = Some(*tenant);
        }
        if let Some(kind) = rest.first_chunk::<2>() {
            *self.manifest.rows_by_kind.entry(u16::from_be_bytes(*kind)).or_default() += 1;
        }
    }
}
