use aesp_keys::SecretRef;
use serde::{Deserialize, Serialize};

use super::{Error, validate::Check};

/// What becomes of audit events beside the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Where they are sent as they happen. The same at every node, because each sends the events of the tenants whose home it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<aesp_sinks::Config>,
}

impl Audit {
    pub(super) fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }
}

impl Check<'_> {
    pub(super) fn audit(&self, mut audit: Audit) -> Result<Audit, Error> {
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
}
