use std::{path::PathBuf, time::Duration};

use aesp_keys::SecretRef;
use aesp_outbound::Endpoint;
use serde::{Deserialize, Serialize};

use crate::{
    Severity,
    filter::{self, Filter},
    state::Limits,
};

/// A sink: where audit events are sent. What is 0 or empty takes the default of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Names the sink for ever: its cursors in the store belong to the name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where it is. Syslog: `tls://HOST:PORT`. Webhook, Splunk, Elasticsearch, OpenTelemetry: an `https://` address (the path of a
    /// webhook included; the others bring their own). Objects: `file:///PATH`, `s3://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or
    /// `gs://BUCKET/PREFIX`. In plain `http://` on this machine alone.
    pub target: String,
    /// From where a new sink gets a tenant's events.
    pub start: Start,
    /// The authorities that its certificate must come from, PEM; absent for those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// What this node shows as its client certificate, PEM, with the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_key: Option<PathBuf>,
    /// A reference to its secret. Webhook: what signs (needed). Splunk: the HEC token (needed). Elasticsearch: the API key, or the
    /// password of `user`. OpenTelemetry: a bearer token. Objects: the secret access key, account key or service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// Elasticsearch: the user, where `secret` is a password. Objects: the access key id.
    pub user: String,
    /// Splunk: the index, if not the token's own. Elasticsearch: the index or data stream.
    pub index: String,
    /// Objects on S3: for how many days each is locked against deletion; 0 for not at all.
    pub object_lock_days: u32,
    /// Only these event types, such as `TOOL_INVOCATION`; all if there are none.
    pub types: Vec<String>,
    /// Only these tenants, by their ids; all if there are none.
    pub tenants: Vec<String>,
    /// Only events of this severity or a higher one.
    pub min_severity: Severity,
    /// The most events in a batch; 0 for the kind's default.
    pub batch_events: u32,
    /// The most KiB in a batch; 0 for the kind's default.
    pub batch_kib: u32,
    /// How long an event waits for others to go with it; 0 for the kind's default.
    pub batch_ms: u32,
    /// How long the sink may take to answer; and for Splunk's indexer, how long to acknowledge what was taken.
    pub timeout_ms: u32,
    /// How many batches may be on their way at once, each of other tenants.
    pub lanes: u32,
}

/// What a sink is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// RFC 5424 messages over TLS, as RFC 5425 has it.
    #[default]
    Syslog,
    /// A signed POST of JSON.
    Webhook,
    /// Splunk's HTTP Event Collector with acknowledgement.
    Splunk,
    /// Elasticsearch's or OpenSearch's bulk API.
    Elasticsearch,
    /// Files on an object store.
    Objects,
    /// OpenTelemetry logs over HTTP.
    Otlp,
}

impl Kind {
    /// Returns its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Syslog => "syslog",
            Self::Webhook => "webhook",
            Self::Splunk => "splunk",
            Self::Elasticsearch => "elasticsearch",
            Self::Objects => "objects",
            Self::Otlp => "otlp",
        }
    }
}

/// From where a new sink gets a tenant's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// From the moment that the sink is first known to the cluster.
    #[default]
    Now,
    /// From each tenant's first event.
    Beginning,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: Kind::Syslog,
            target: String::new(),
            start: Start::Now,
            ca: None,
            certificate: None,
            certificate_key: None,
            secret: None,
            user: String::new(),
            index: String::new(),
            object_lock_days: 0,
            types: Vec::new(),
            tenants: Vec::new(),
            min_severity: Severity::Informational,
            batch_events: 0,
            batch_kib: 0,
            batch_ms: 0,
            timeout_ms: 10_000,
            lanes: 2,
        }
    }
}

/// The longest name.
const NAME_CHARS: usize = 63;

impl Config {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// The key that is wrong, and what would be right there.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > NAME_CHARS || !self.name.chars().all(ordinary) {
            return Err(("name", "1 to 63 letters, digits, `-`, `_` or `.`"));
        }
        self.check_target()?;
        self.check_secret()?;
        if self.certificate.is_some() != self.certificate_key.is_some() {
            return Err(("certificate", "given together with `certificate_key`, or both left out"));
        }
        if self.certificate.is_some() && self.kind == Kind::Objects {
            return Err(("certificate", "left out: object stores ask for no client certificate"));
        }
        if self.object_lock_days > 0 && !self.target.starts_with("s3://") {
            return Err(("object_lock_days", "0 where the target is no `s3://`: only S3 locks objects"));
        }
        let index = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !self.index.chars().all(index) || (self.kind == Kind::Elasticsearch && self.index.is_empty()) {
            return Err(("index", "the name of an index or data stream: letters, digits, `-`, `_` or `.`"));
        }
        if !self.types.iter().all(|kind| filter::event_type(kind).is_some()) {
            return Err(("types", "names of event types, such as TOOL_INVOCATION"));
        }
        if !self.tenants.iter().all(|tenant| filter::tenant(tenant).is_some()) {
            return Err(("tenants", "ids of tenants, as `aesp tenant list` shows them"));
        }
        let ranges = [
            ("batch_events", self.batch_events, 0, 50_000),
            ("batch_kib", self.batch_kib, 0, 65_536),
            ("batch_ms", self.batch_ms, 0, 3_600_000),
            ("timeout_ms", self.timeout_ms, 100, 300_000),
            ("lanes", self.lanes, 1, 64),
            ("object_lock_days", self.object_lock_days, 0, 36_500),
        ];
        match ranges.iter().find(|(_, value, least, most)| !(*least..=*most).contains(value)) {
            Some((key @ "timeout_ms", ..)) => Err((key, "from 100 to 300000")),
            Some((key @ "lanes", ..)) => Err((key, "from 1 to 64")),
            Some((key @ "batch_events", ..)) => Err((key, "from 0 to 50000")),
            Some((key @ "batch_kib", ..)) => Err((key, "from 0 to 65536")),
            Some((key @ "batch_ms", ..)) => Err((key, "from 0 to 3600000")),
            Some((key, ..)) => Err((key, "from 0 to 36500")),
            None => Ok(()),
        }
    }

    fn check_target(&self) -> Result<(), (&'static str, &'static str)> {
        let expected = match self.kind {
            Kind::Syslog => "`tls://HOST:PORT`; syslog without TLS is not spoken",
            Kind::Objects => {
                "`file:///PATH`, `s3://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or `gs://BUCKET/PREFIX`"
            }
            _ => "an `https://` address without user, query or fragment; `http://` on this machine alone",
        };
        let good = match self.kind {
            Kind::Syslog => self.syslog_address().is_some(),
            Kind::Objects => ["file:///", "s3://", "az://", "gs://"]
                .iter()
                .any(|scheme| self.target.len() > scheme.len() && self.target.starts_with(scheme)),
            Kind::Webhook => self.url().is_some_and(|url| url.fragment().is_none()),
            Kind::Splunk | Kind::Elasticsearch | Kind::Otlp => {
                self.url().is_some_and(|url| url.query().is_none() && url.fragment().is_none())
            }
        };
        if good { Ok(()) } else { Err(("target", expected)) }
    }

    fn check_secret(&self) -> Result<(), (&'static str, &'static str)> {
        match self.kind {
            Kind::Webhook if self.secret.is_none() => {
                Err(("secret", "a reference to the secret that signs, such as `file:PATH` or `vault:…`"))
            }
            Kind::Splunk if self.secret.is_none() => {
                Err(("secret", "a reference to the HEC token, such as `file:PATH` or `vault:…`"))
            }
            Kind::Syslog if self.secret.is_some() => {
                Err(("secret", "left out: syslog knows client certificates only"))
            }
            Kind::Elasticsearch | Kind::Objects => Ok(()),
            _ if !self.user.is_empty() => Err(("user", "left out: only elasticsearch and objects have one")),
            _ => Ok(()),
        }
    }

    /// Returns the host and the port of a syslog receiver.
    pub(crate) fn syslog_address(&self) -> Option<(String, u16)> {
        let (host, port) = self.target.strip_prefix("tls://")?.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        plain.then(|| (host.to_owned(), port))
    }

    /// Returns the address of an HTTP sink, if it is one that may be used.
    pub(crate) fn url(&self) -> Option<reqwest::Url> {
        aesp_outbound::url(&self.target)
    }

    /// Returns what connections to it are made of.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            name: self.name.clone(),
            target: self.target.clone(),
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            certificate_key: self.certificate_key.clone(),
            timeout: self.timeout(),
        }
    }

    /// Returns how long the sink may take to answer.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }

    /// Returns the filter; `since` is when the sink was first known.
    pub(crate) fn filter(&self, since: Option<aesp_proto::Timestamp>) -> Filter {
        Filter {
            kinds: self.types.iter().filter_map(|kind| filter::event_type(kind)).collect(),
            tenants: self.tenants.iter().filter_map(|tenant| filter::tenant(tenant)).collect(),
            least: self.min_severity,
            since,
        }
    }

    /// Returns what bounds a lane, with the kind's defaults.
    pub(crate) fn limits(&self) -> Limits {
        let (events, kib, age_ms) = match self.kind {
            Kind::Syslog | Kind::Webhook | Kind::Elasticsearch | Kind::Otlp => (500, 1_024, 500),
            // Confirmations come late, so that fewer and larger batches serve better.
            Kind::Splunk => (2_000, 4_096, 1_000),
            // Few large objects.
            Kind::Objects => (10_000, 8_192, 30_000),
        };
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        Limits {
            batch_events: or(self.batch_events, events) as usize,
            batch_bytes: (or(self.batch_kib, kib) as usize) << 10,
            batch_age: Duration::from_millis(or(self.batch_ms, age_ms).into()),
            pauses: PAUSES,
        }
    }
}

/// The pause after a sink's first failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[cfg(test)]
mod tests {
    use super::*;

    fn good(kind: Kind, target: &str) -> Config {
        let secret = matches!(kind, Kind::Webhook | Kind::Splunk).then(|| "env:SECRET".parse().unwrap());
        let index = if kind == Kind::Elasticsearch { "aesp" } else { "" };
        let index = index.to_owned();
        Config { name: "soc".into(), kind, target: target.into(), secret, index, ..Config::default() }
    }

    #[test]
    fn targets_are_encrypted_unless_they_are_here() {
        let targets = [
            (Kind::Syslog, "tls://siem.example:6514", true),
            (Kind::Syslog, "tls://[::1]:6514", true),
            (Kind::Syslog, "tcp://siem.example:514", false),
            (Kind::Syslog, "tls://siem.example", false),
            (Kind::Webhook, "https://soc.example/hook?x=1", true),
            (Kind::Webhook, "http://soc.example/hook", false),
            (Kind::Webhook, "http://127.0.0.1:80/hook", true),
            (Kind::Webhook, "http://127.0.0.1.example/hook", false),
            (Kind::Webhook, "https://user:password@soc.example/", false),
            (Kind::Splunk, "https://splunk.example:8088", true),
            (Kind::Splunk, "https://splunk.example:8088/?a=b", false),
            (Kind::Elasticsearch, "https://es.example:9200", true),
            (Kind::Otlp, "https://otel.example:4318", true),
            (Kind::Objects, "s3://bucket/prefix", true),
            (Kind::Objects, "s3://", false),
            (Kind::Objects, "https://bucket", false),
        ];
        for (kind, target, is_good) in targets {
            let checked = good(kind, target).check();
            assert_eq!(checked.is_ok(), is_good, "{target}: {checked:?}");
            assert!(is_good || checked.unwrap_err().0 == "target");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |kind: Kind, target: &str, change: fn(&mut Config)| {
            let mut config = good(kind, target);
            assert_eq!(config.check(), Ok(()));
            change(&mut config);
            config.check().unwrap_err().0
        };
        let hook = "https://soc.example/";
        assert_eq!(wrong(Kind::Webhook, hook, |config| config.name = "a b".into()), "name");
        assert_eq!(wrong(Kind::Webhook, hook, |config| config.secret = None), "secret");
        assert_eq!(wrong(Kind::Webhook, hook, |config| config.user = "me".into()), "user");
        assert_eq!(wrong(Kind::Webhook, hook, |config| config.types = vec!["X".into()]), "types");
        assert_eq!(wrong(Kind::Webhook, hook, |config| config.tenants = vec!["acme".into()]), "tenants");
        assert_eq!(wrong(Kind::Webhook, hook, |config| config.timeout_ms = 0), "timeout_ms");
        assert_eq!(wrong(Kind::Webhook, hook, |config| config.lanes = 0), "lanes");
        assert_eq!(wrong(Kind::Webhook, hook, |config| config.object_lock_days = 1), "object_lock_days");
        assert_eq!(wrong(Kind::Webhook, hook, |config| config.certificate = Some("c".into())), "certificate");
        assert_eq!(wrong(Kind::Elasticsearch, hook, |config| config.index.clear()), "index");
        assert_eq!(wrong(Kind::Elasticsearch, hook, |config| config.index = "a/_all".into()), "index");
    }
}
