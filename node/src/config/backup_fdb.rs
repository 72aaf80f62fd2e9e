use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Backup;

/// How FoundationDB's own backup is driven; for a store on FoundationDB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupFdb {
    /// The folder with `fdbbackup` and `fdbrestore` of the servers' release.
    pub programs: PathBuf,
    /// The program `backup_agent`.
    pub agent: PathBuf,
    /// How many agents the node that leads the backups runs; 0 where `fdbmonitor` runs them on the servers.
    pub agents: u32,
    /// The cluster file of another FoundationDB cluster, which drills restore to; absent for no drills. It is locked meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_cluster: Option<PathBuf>,
}

impl Default for BackupFdb {
    fn default() -> Self {
        Self {
            programs: "/usr/bin".into(),
            agent: "/usr/lib/foundationdb/backup_agent/backup_agent".into(),
            agents: 1,
            drill_cluster: None,
        }
    }
}

const BLOBSTORE: &str = "blobstore://";

/// Tells what is wrong with a target, if anything is.
pub(super) fn check_target(backup: &Backup) -> Result<(), &'static str> {
    let target = &backup.target;
    if target.strip_prefix("file:///").is_some_and(|path| !path.is_empty() && !path.contains('?')) {
        return Ok(());
    }
    let wrong =
        "`file:///PATH` or `blobstore://KEY@HOST[:PORT]/NAME?bucket=BUCKET` for a store on FoundationDB";
    let rest = target.strip_prefix(BLOBSTORE).ok_or(wrong)?;
    let (head, options) = rest.split_once('?').ok_or(wrong)?;
    let (host, name) = head.split_once('/').ok_or(wrong)?;
    if host.rsplit_once('@').is_some_and(|(login, _)| login.contains(':')) {
        return Err("without the secret, which belongs into backup.credentials_file");
    }
    let bucket =
        options.split('&').any(|option| option.strip_prefix("bucket=").is_some_and(|b| !b.is_empty()));
    if host.is_empty() || name.trim_matches('/').is_empty() || !bucket { Err(wrong) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_checked() {
        let check = |target: &str| check_target(&Backup { target: target.into(), ..Default::default() });
        for good in
            ["file:///b", "blobstore://key@host:443/name?bucket=b", "blobstore://host/a/b?region=r&bucket=b"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "/b",
            "file:///",
            "file://b",
            "s3://b/p",
            "blobstore://key@host/name",
            "blobstore://key@host/?bucket=b",
            "blobstore://key@host/name?bucket=",
            "blobstore:///name?bucket=b",
            "file:///b?x=y",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(check("blobstore://key:canary@host/name?bucket=b").unwrap_err().contains("credentials_file"));
    }
}
