use std::{collections::BTreeMap, fmt, time::Duration};

use aesp_proto::TenantId;
use aesp_storage::{Scan, Transaction};
use secrecy::SecretString;

use crate::{
    Error, RuntimeMode,
    config_row::ConfigRow,
    key::{Key, RUNTIME_MODE, SESSION_LIFETIME, SESSION_TTL, WEBHOOK_SECRET},
};

/// A tenant's configuration at one revision; every value has its type.
#[derive(Default)]
pub struct Config {
    session_ttl: Option<Duration>,
    session_lifetime: Option<Duration>,
    runtime_mode: RuntimeMode,
    webhook_secret: Option<SecretString>,
}

impl Config {
    pub(crate) async fn load(tx: &Transaction, tenant: TenantId) -> Result<Self, Error> {
        let rows = tx.scan::<ConfigRow>(tenant, Scan::default()).await?;
        let set = rows.into_iter().filter_map(|(name, row)| Some((name, row.0.value?)));
        Ok(Self::from_values(&set.collect()))
    }

    /// Reads the values; one that an older release let through and this one refuses counts as not set.
    pub(crate) fn from_values(values: &BTreeMap<String, String>) -> Self {
        let value = |name: &str| {
            let text = values.get(name)?;
            Key::find(name).ok()?.check(text).ok()?;
            Some(text.as_str())
        };
        let seconds = |name: &str| value(name)?.parse().ok().map(Duration::from_secs);
        Self {
            session_ttl: seconds(SESSION_TTL),
            session_lifetime: seconds(SESSION_LIFETIME),
            runtime_mode: match value(RUNTIME_MODE) {
                Some("DEVELOPMENT") => RuntimeMode::Development,
                _ => RuntimeMode::Strict,
            },
            webhook_secret: value(WEBHOOK_SECRET).map(SecretString::from),
        }
    }

    /// Returns how long a session lives when its creator names no time.
    #[must_use]
    pub fn session_ttl(&self) -> Duration {
        self.session_ttl.unwrap_or(Duration::from_secs(3_600))
    }

    /// Returns how long a session lives at most, however often it is renewed.
    #[must_use]
    pub fn session_lifetime(&self) -> Duration {
        self.session_lifetime.unwrap_or(Duration::from_secs(2_592_000))
    }

    /// Returns whether Runtimes may register their own tools.
    #[must_use]
    pub fn runtime_mode(&self) -> RuntimeMode {
        self.runtime_mode
    }

    /// Returns what notifications are signed with, if anything.
    #[must_use]
    pub fn webhook_secret(&self) -> Option<&SecretString> {
        self.webhook_secret.as_ref()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("session_ttl", &self.session_ttl())
            .field("session_lifetime", &self.session_lifetime())
            .field("runtime_mode", &self.runtime_mode)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_as_the_keys_say() {
        let config = Config::default();
        let default = |name| Key::find(name).expect("exists").default;
        assert_eq!(config.session_ttl().as_secs().to_string(), default(SESSION_TTL));
        assert_eq!(config.session_lifetime().as_secs().to_string(), default(SESSION_LIFETIME));
        assert_eq!(config.runtime_mode(), RuntimeMode::Strict);
    }
}
