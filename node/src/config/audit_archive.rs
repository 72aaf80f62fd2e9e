use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Error, validate::Check};

/// Where the oldest audit events are moved to, from where they are read as before. Without this section they stay in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditArchive {
    /// The object store: `file:///PATH`, `s3://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or `gs://BUCKET/PREFIX`.
    pub target: String,
    /// A file with the credentials for the target, as that of a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// The authorities that the object store's certificate must come from, PEM; absent for those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// How old events are when they are moved.
    pub after_days: u32,
}

impl Default for AuditArchive {
    fn default() -> Self {
        Self { target: String::new(), credentials_file: None, ca: None, after_days: 90 }
    }
}

impl AuditArchive {
    /// Returns how old events are when they are moved.
    #[must_use]
    pub fn after(&self) -> Duration {
        Duration::from_secs(u64::from(self.after_days) * 86_400)
    }
}

impl Check<'_> {
    pub(super) fn audit_archive(&self, mut archive: AuditArchive) -> Result<AuditArchive, Error> {
        let place = ["file:///", "s3://", "az://", "gs://"];
        let target = &archive.target;
        if !place.iter().any(|scheme| target.len() > scheme.len() && target.starts_with(scheme)) {
            let expected = "`file:///PATH`, `s3://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or `gs://BUCKET/PREFIX`";
            return self.invalid("audit.archive.target", target, expected);
        }
        if archive.after_days > 36_525 {
            return self.invalid("audit.archive.after_days", archive.after_days.to_string(), "at most 36525");
        }
        archive.ca = archive.ca.map(|path| self.beside("audit.archive.ca", path));
        archive.credentials_file =
            archive.credentials_file.map(|path| self.beside("audit.archive.credentials_file", path));
        Ok(archive)
    }
}
