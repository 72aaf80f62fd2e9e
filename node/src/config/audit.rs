use aesp_keys::SecretRef;
use serde::{Deserialize, Serialize};

use super::{AuditArchive, Error, validate::Check};

/// What becomes of audit events beside the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Where they are sent as they happen. The same at every node, because each sends the events of the tenants whose home it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<aesp_sinks::Config>,
    /// Who cosigns the checkpoints of the platform log. The same at every node, because each may be its home.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub witness: Vec<aesp_witness::Config>,
    /// How many of them must.
    pub witness_quorum: u32,
    /// Whether everybody may read the platform log, or callers who are known only.
    pub public_platform_log: bool,
    /// Where its checkpoints are anchored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<aesp_witness::Anchor>,
    /// What tenants may say of how long their events are kept. The same at every node.
    pub retention: aesp_retention::Limits,
    /// Where the oldest events are moved to, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<AuditArchive>,
}

impl Audit {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Check<'_> {
    pub(super) fn audit(&self, mut audit: Audit) -> Result<Audit, Error> {
        if let Err((wrong, found, expected)) = audit.retention.check() {
            return self.invalid(&format!("audit.retention.{wrong}"), found.to_string(), expected);
        }
        audit.archive = audit.archive.map(|archive| self.audit_archive(archive)).transpose()?;
        for (at, sink) in audit.sinks.iter().enumerate() {
            let key = |key: &str| format!("audit.sinks.{at}.{key}");
            if let Err((wrong, expected)) = sink.check() {
                let found = match wrong {
                    "name" => sink.name.clone(),
                    "target" => sink.target.clone(),
                    "user" => sink.user.clone(),
                    "index" => sink.index.clone(),
                    "types" => sink.types.join(", "),
                    "tenants" => sink.tenants.join(", "),
                    "lanes" => sink.lanes.to_string(),
                    "timeout_ms" => sink.timeout_ms.to_string(),
                    "batch_events" => sink.batch_events.to_string(),
                    "batch_kib" => sink.batch_kib.to_string(),
                    "batch_ms" => sink.batch_ms.to_string(),
                    "object_lock_days" => sink.object_lock_days.to_string(),
                    "secret" => sink.secret.as_ref().map(SecretRef::to_string).unwrap_or_default(),
                    _ => String::new(),
                };
                return self.invalid(&key(wrong), found, expected);
            }
            if audit.sinks[..at].iter().any(|before| before.name == sink.name) {
                return self.invalid(&key("name"), &sink.name, "a name that no other sink has");
            }
        }
        self.witnesses(&mut audit)?;
        for (at, sink) in audit.sinks.iter_mut().enumerate() {
            let beside = |key: &str, path| self.beside(&format!("audit.sinks.{at}.{key}"), path);
            sink.ca = sink.ca.take().map(|path| beside("ca", path));
            sink.certificate = sink.certificate.take().map(|path| beside("certificate", path));
            sink.certificate_key = sink.certificate_key.take().map(|path| beside("certificate_key", path));
            sink.secret = sink.secret.take().map(|secret| match secret {
                SecretRef::File(path) => SecretRef::File(beside("secret", path)),
                other => other,
            });
        }
        Ok(audit)
    }

    /// Checks who witnesses the platform log, and where it is anchored.
    fn witnesses(&self, audit: &mut Audit) -> Result<(), Error> {
        for (at, witness) in audit.witness.iter().enumerate() {
            let key = |key: &str| format!("audit.witness.{at}.{key}");
            if let Err((wrong, expected)) = witness.check() {
                let found = match wrong {
                    "name" => witness.name.clone(),
                    "url" => witness.url.clone(),
                    "key" => witness.key.clone(),
                    _ => witness.timeout_ms.to_string(),
                };
                return self.invalid(&key(wrong), found, expected);
            }
            if audit.witness[..at].iter().any(|before| before.name == witness.name) {
                return self.invalid(&key("name"), &witness.name, "a name that no other witness has");
            }
            if audit.witness[..at].iter().any(|before| before.key == witness.key) {
                return self.invalid(&key("key"), &witness.key, "a key that no other witness has");
            }
        }
        let (quorum, witnesses) = (audit.witness_quorum as usize, audit.witness.len());
        if quorum > witnesses || (quorum == 0 && witnesses > 0) {
            let expected = "1 up to the number of witnesses, and 0 without any";
            return self.invalid("audit.witness_quorum", quorum.to_string(), expected);
        }
        for (at, witness) in audit.witness.iter_mut().enumerate() {
            let ca = witness.ca.take();
            witness.ca = ca.map(|path| self.beside(&format!("audit.witness.{at}.ca"), path));
        }
        let Some(anchor) = &mut audit.anchor else { return Ok(()) };
        if let Err((wrong, expected)) = anchor.check() {
            let found =
                if wrong == "target" { anchor.target.clone() } else { anchor.every_seconds.to_string() };
            return self.invalid(&format!("audit.anchor.{wrong}"), found, expected);
        }
        anchor.ca = anchor.ca.take().map(|path| self.beside("audit.anchor.ca", path));
        anchor.secret = anchor.secret.take().map(|secret| match secret {
            SecretRef::File(path) => SecretRef::File(self.beside("audit.anchor.secret", path)),
            other => other,
        });
        Ok(())
    }
}
