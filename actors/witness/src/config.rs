use std::{path::PathBuf, time::Duration};

use aesp_keys::SecretRef;
use aesp_merkle::Cosigner;
use serde::{Deserialize, Serialize};

/// A witness that cosigns the checkpoints of the platform log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Names the witness for ever: what it cosigned last is kept under the name.
    pub name: String,
    /// Its address (C2SP tlog-witness), before `/add-checkpoint`; in plain `http://` on this machine alone.
    pub url: String,
    /// Its public key, as C2SP writes keys that cosign: `NAME+ID+BASE64`.
    pub key: String,
    /// The authorities that its certificate must come from, PEM; absent for those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// How long it may take to answer.
    pub timeout_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { name: String::new(), url: String::new(), key: String::new(), ca: None, timeout_ms: 5_000 }
    }
}

impl Config {
    /// Checks it. An error names the key that is wrong, and what would be right.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(plain) {
            return Err(("name", "1 to 64 small letters, digits and hyphens"));
        }
        if self.add_checkpoint().is_none() {
            return Err((
                "url",
                "an https:// address without a question mark; http:// on this machine alone",
            ));
        }
        if self.cosigner().is_none() {
            return Err((
                "key",
                "the key of a witness: NAME+ID+BASE64 of type 04 (aesp witness key shows it)",
            ));
        }
        if !(100..=60_000).contains(&self.timeout_ms) {
            return Err(("timeout_ms", "100 to 60000"));
        }
        Ok(())
    }

    /// Returns its key, if it is one.
    #[must_use]
    pub fn cosigner(&self) -> Option<Cosigner> {
        self.key.parse().ok()
    }

    /// Returns where checkpoints are sent, if its address is one that may be used.
    pub(crate) fn add_checkpoint(&self) -> Option<reqwest::Url> {
        let mut url = aesp_outbound::url(&self.url)?;
        if url.query().is_some() || url.fragment().is_some() {
            return None;
        }
        let path = format!("{}/add-checkpoint", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Some(url)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }
}

/// Where checkpoints of the platform log are anchored, beside the audit events about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Anchor {
    /// How often, while the log changes.
    pub every_seconds: u32,
    /// `file:///PATH`, `s3://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or `gs://BUCKET/PREFIX`; empty for audit events alone.
    pub target: String,
    /// The access key id, where there is one.
    pub user: String,
    /// A reference to the secret access key, account key or service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// The authorities that the object store's certificate must come from, PEM; absent for those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// For how many days S3 locks each anchor against deletion; 0 for not at all.
    pub object_lock_days: u32,
}

impl Default for Anchor {
    fn default() -> Self {
        Self {
            every_seconds: 60,
            target: String::new(),
            user: String::new(),
            secret: None,
            ca: None,
            object_lock_days: 0,
        }
    }
}

impl Anchor {
    /// Checks it. An error names the key that is wrong, and what would be right.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !(1..=86_400).contains(&self.every_seconds) {
            return Err(("every_seconds", "1 to 86400"));
        }
        if !self.target.is_empty() && self.at(aesp_backup::Credentials::default()).is_err() {
            return Err((
                "target",
                "file:///PATH, s3://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX or gs://BUCKET/PREFIX; object_lock_days for s3 alone",
            ));
        }
        Ok(())
    }

    /// Returns the target with its object lock.
    pub(crate) fn at(
        &self,
        credentials: aesp_backup::Credentials,
    ) -> Result<aesp_backup::Target, aesp_backup::Error> {
        let target = aesp_backup::Target::parse(&self.target, credentials)?;
        match self.object_lock_days {
            0 => Ok(target),
            days => target.with_object_lock(days),
        }
    }

    pub(crate) fn every(&self) -> Duration {
        Duration::from_secs(self.every_seconds.into())
    }
}
