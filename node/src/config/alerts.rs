use aesp_alerts::Config;
use aesp_keys::SecretRef;

use super::{Error, validate::Check};

impl Check<'_> {
    pub(super) fn alerts(&self, mut alerts: Config) -> Result<Config, Error> {
        for (at, receiver) in alerts.receivers.iter().enumerate() {
            let key = |key: &str| format!("alerts.receivers.{at}.{key}");
            if let Err((wrong, expected)) = receiver.check() {
                let found = match wrong {
                    "name" => receiver.name.clone(),
                    "target" => receiver.target.clone(),
                    "user" => receiver.user.clone(),
                    "from" => receiver.from.clone(),
                    "to" => receiver.to.join(", "),
                    "tenants" => receiver.tenants.join(", "),
                    "group_wait_seconds" => receiver.group_wait_seconds.to_string(),
                    "group_interval_seconds" => receiver.group_interval_seconds.to_string(),
                    "repeat_seconds" => receiver.repeat_seconds.to_string(),
                    "timeout_ms" => receiver.timeout_ms.to_string(),
                    "give_up_seconds" => receiver.give_up_seconds.to_string(),
                    "secret" => receiver.secret.as_ref().map(SecretRef::to_string).unwrap_or_default(),
                    _ => String::new(),
                };
                return self.invalid(&key(wrong), found, expected);
            }
            if alerts.receivers[..at].iter().any(|before| before.name == receiver.name) {
                return self.invalid(&key("name"), &receiver.name, "a name that no other receiver has");
            }
        }
        if let Some(unknown) = alerts.unknown_default() {
            return self.invalid("alerts.default", unknown, "names of `alerts.receivers`");
        }
        for (at, receiver) in alerts.receivers.iter_mut().enumerate() {
            let beside = |key: &str, path| self.beside(&format!("alerts.receivers.{at}.{key}"), path);
            receiver.ca = receiver.ca.take().map(|path| beside("ca", path));
            receiver.certificate = receiver.certificate.take().map(|path| beside("certificate", path));
            receiver.certificate_key =
                receiver.certificate_key.take().map(|path| beside("certificate_key", path));
            receiver.secret = receiver.secret.take().map(|secret| match secret {
                SecretRef::File(path) => SecretRef::File(beside("secret", path)),
                other => other,
            });
        }
        Ok(alerts)
    }
}
