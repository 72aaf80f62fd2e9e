use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use aesp_audit_formats::Severity;
use aesp_keys::SecretRef;
use aesp_outbound::Endpoint;
use aesp_proto::TenantId;
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};

use crate::{
    desk::{Book, Open},
    note::{GroupBy, Manner},
    rule::is_name,
};

/// Who is told of alerts. The same at every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The receivers of alerts of rules that name none.
    pub default: Vec<String>,
    /// All receivers.
    pub receivers: Vec<Receiver>,
}

/// Who can be told. What is 0 takes the default of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receiver {
    /// Names it, in rules and in the record.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where it is. Alertmanager: the `https://` address, its own paths left out. PagerDuty: `https://events.pagerduty.com`, or that of
    /// its region. Webhook: the whole address. E-mail: `smtps://HOST:465` for TLS at once, or `smtp://HOST:587` for STARTTLS.
    pub target: String,
    /// The tenants that may name it in their rules: ids, or `*` for all. It is told by default of any tenant's alerts all the same.
    pub tenants: Vec<String>,
    /// Only alerts of this severity or a higher one.
    pub min_severity: Severity,
    /// The authorities that its certificate must come from, PEM; absent for those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// What this node shows as its client certificate, PEM, with the chain. Not for e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_key: Option<PathBuf>,
    /// A reference to its secret. PagerDuty: the integration's routing key (needed). Webhook: what signs (needed). Alertmanager: a bearer
    /// token, or the password of `user`. E-mail: the password of `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// Alertmanager, e-mail: the user, where `secret` is a password.
    pub user: String,
    /// E-mail: from whom.
    pub from: String,
    /// E-mail: to whom.
    pub to: Vec<String>,
    /// Which alerts go into one message; each by itself for PagerDuty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<GroupBy>,
    /// How long the first message of a group waits for more to go with it.
    pub group_wait_seconds: u32,
    /// The shortest time between two messages of a group.
    pub group_interval_seconds: u32,
    /// After how long the receiver is told again of an alert that lasts.
    pub repeat_seconds: u32,
    /// Whether it is told when an alert ends.
    pub resolved: bool,
    /// How long it may take to answer.
    pub timeout_ms: u32,
    /// After how long a message that it does not take is given up.
    pub give_up_seconds: u32,
}

/// What a receiver is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Prometheus' Alertmanager, API v2.
    #[default]
    Alertmanager,
    /// PagerDuty, Events API v2.
    Pagerduty,
    /// A signed POST of JSON.
    Webhook,
    /// Mail by SMTP over TLS.
    Email,
}

impl Kind {
    /// Returns its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::Pagerduty => "pagerduty",
            Self::Webhook => "webhook",
            Self::Email => "email",
        }
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: Kind::Alertmanager,
            target: String::new(),
            tenants: Vec::new(),
            min_severity: Severity::Informational,
            ca: None,
            certificate: None,
            certificate_key: None,
            secret: None,
            user: String::new(),
            from: String::new(),
            to: Vec::new(),
            group_by: None,
            group_wait_seconds: 5,
            group_interval_seconds: 60,
            repeat_seconds: 4 * 3_600,
            resolved: true,
            timeout_ms: 10_000,
            give_up_seconds: 86_400,
        }
    }
}

/// Alertmanager forgets an alert that it is not told again; it is told so often, and believes it for so long.
const REFRESH: Duration = Duration::from_secs(60);
pub(crate) const BELIEVED: Duration = Duration::from_secs(5 * 60);
/// Stands for all tenants.
const ALL: &str = "*";

/// The address of a mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// TLS at once, and not after STARTTLS.
    pub(crate) at_once: bool,
}

impl Config {
    /// Tells whether nobody is told of anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receivers.is_empty() && self.default.is_empty()
    }

    /// Returns a default receiver of which there is none.
    #[must_use]
    pub fn unknown_default(&self) -> Option<&str> {
        let known: BTreeSet<&str> = self.receivers.iter().map(|receiver| receiver.name.as_str()).collect();
        self.default.iter().map(String::as_str).find(|name| !known.contains(name))
    }

    pub(crate) fn book(&self) -> Book {
        let mut book = Book { default: self.default.clone(), ..Book::default() };
        for receiver in &self.receivers {
            book.manners.insert(receiver.name.clone(), receiver.manner());
            let open = if receiver.tenants.iter().any(|tenant| tenant == ALL) {
                Open::All
            } else {
                Open::These(receiver.tenants.iter().filter_map(|tenant| tenant.parse().ok()).collect())
            };
            book.open.insert(receiver.name.clone(), open);
        }
        book
    }
}

impl Receiver {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// The key that is wrong, and what would be right there.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !is_name(&self.name) {
            return Err(("name", "1 to 63 letters, digits, `-`, `_` or `.`"));
        }
        self.check_target()?;
        if self.secret.is_none() {
            match self.kind {
                Kind::Webhook => {
                    return Err((
                        "secret",
                        "a reference to the secret that signs, such as `file:PATH` or `vault:…`",
                    ));
                }
                Kind::Pagerduty => {
                    return Err((
                        "secret",
                        "a reference to the routing key, such as `file:PATH` or `vault:…`",
                    ));
                }
                Kind::Alertmanager | Kind::Email if !self.user.is_empty() => {
                    return Err(("secret", "a reference to the password of `user`"));
                }
                Kind::Alertmanager | Kind::Email => {}
            }
        }
        if !self.user.is_empty() && !matches!(self.kind, Kind::Alertmanager | Kind::Email) {
            return Err(("user", "left out: only alertmanager and email have one"));
        }
        if self.kind == Kind::Email && self.user.is_empty() && self.secret.is_some() {
            return Err(("user", "the user whose password `secret` is"));
        }
        if self.certificate.is_some() != self.certificate_key.is_some() {
            return Err(("certificate", "given together with `certificate_key`, or both left out"));
        }
        if self.certificate.is_some() && self.kind == Kind::Email {
            return Err(("certificate", "left out: e-mail knows users and passwords only"));
        }
        let mailbox = |text: &String| text.parse::<Mailbox>().is_ok();
        if self.kind == Kind::Email {
            if !mailbox(&self.from) {
                return Err(("from", "an address such as `AESP <aesp@example.com>`"));
            }
            if self.to.is_empty() || self.to.len() > 50 || !self.to.iter().all(mailbox) {
                return Err(("to", "1 to 50 addresses such as `soc@example.com`"));
            }
        } else if !self.from.is_empty() || !self.to.is_empty() {
            return Err(("from", "left out together with `to`: only email has them"));
        }
        if self.kind == Kind::Pagerduty && self.group_by.is_some_and(|group| group != GroupBy::Alert) {
            return Err(("group_by", "left out, or `alert`: PagerDuty is told of each by itself"));
        }
        let tenant = |text: &String| text == ALL || text.parse::<TenantId>().is_ok();
        if !self.tenants.iter().all(tenant) {
            return Err(("tenants", "ids of tenants, as `aesp tenant list` shows them, or `*`"));
        }
        for (key, value, least, most, expected) in [
            ("group_wait_seconds", self.group_wait_seconds, 0, 3_600, "from 0 to 3600"),
            ("group_interval_seconds", self.group_interval_seconds, 1, 86_400, "from 1 to 86400"),
            ("repeat_seconds", self.repeat_seconds, 60, 2_678_400, "from 60 to 2678400"),
            ("timeout_ms", self.timeout_ms, 100, 300_000, "from 100 to 300000"),
            ("give_up_seconds", self.give_up_seconds, 60, 2_678_400, "from 60 to 2678400"),
        ] {
            if !(least..=most).contains(&value) {
                return Err((key, expected));
            }
        }
        Ok(())
    }

    fn check_target(&self) -> Result<(), (&'static str, &'static str)> {
        let url = || aesp_outbound::url(&self.target).filter(|url| url.fragment().is_none());
        let (good, expected) = match self.kind {
            Kind::Email => (
                self.mail_server().is_some(),
                "`smtps://HOST:PORT` (TLS at once) or `smtp://HOST:PORT` (STARTTLS)",
            ),
            Kind::Webhook => (
                url().is_some(),
                "an `https://` address without user or fragment; `http://` on this machine alone",
            ),
            Kind::Alertmanager | Kind::Pagerduty => (
                url().is_some_and(|url| url.query().is_none()),
                "an `https://` address without user, query or fragment; `http://` on this machine alone",
            ),
        };
        if good { Ok(()) } else { Err(("target", expected)) }
    }

    pub(crate) fn mail_server(&self) -> Option<MailServer> {
        let (scheme, rest) = self.target.split_once("://")?;
        let at_once = match scheme {
            "smtps" => true,
            "smtp" => false,
            _ => return None,
        };
        let (host, port) = rest.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let plain =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'@'));
        plain.then(|| MailServer { host: host.to_owned(), port, at_once })
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }

    pub(crate) fn give_up(&self) -> Duration {
        Duration::from_secs(self.give_up_seconds.into())
    }

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

    fn manner(&self) -> Manner {
        let forgets = self.kind == Kind::Alertmanager;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let by = if self.kind == Kind::Pagerduty { GroupBy::Alert } else { GroupBy::Rule };
        Manner {
            group_by: self.group_by.unwrap_or(by),
            wait: seconds(self.group_wait_seconds),
            interval: seconds(self.group_interval_seconds),
            repeat: if forgets { REFRESH } else { seconds(self.repeat_seconds) },
            forgets,
            acknowledges: self.kind != Kind::Alertmanager,
            resolves: self.resolved,
            least: self.min_severity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(kind: Kind, target: &str) -> Receiver {
        let secret = matches!(kind, Kind::Webhook | Kind::Pagerduty).then(|| "env:SECRET".parse().unwrap());
        let mail = kind == Kind::Email;
        let from = if mail { "AESP <aesp@example.com>".to_owned() } else { String::new() };
        let to = if mail { vec!["soc@example.com".to_owned()] } else { Vec::new() };
        Receiver { name: "soc".into(), kind, target: target.into(), secret, from, to, ..Receiver::default() }
    }

    #[test]
    fn targets_are_encrypted_unless_they_are_here() {
        for (kind, target, is_good) in [
            (Kind::Alertmanager, "https://alerts.example", true),
            (Kind::Alertmanager, "http://127.0.0.1:9093", true),
            (Kind::Alertmanager, "http://alerts.example", false),
            (Kind::Pagerduty, "https://events.pagerduty.com", true),
            (Kind::Pagerduty, "https://events.pagerduty.com?a=b", false),
            (Kind::Webhook, "https://soc.example/hook?a=b", true),
            (Kind::Webhook, "https://me:secret@soc.example/", false),
            (Kind::Email, "smtps://mail.example:465", true),
            (Kind::Email, "smtp://[::1]:587", true),
            (Kind::Email, "smtp://mail.example", false),
            (Kind::Email, "https://mail.example:465", false),
        ] {
            let checked = good(kind, target).check();
            assert_eq!(checked.is_ok(), is_good, "{target}: {checked:?}");
            assert!(is_good || checked.unwrap_err().0 == "target");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |kind: Kind, target: &str, change: fn(&mut Receiver)| {
            let mut receiver = good(kind, target);
            assert_eq!(receiver.check(), Ok(()));
            change(&mut receiver);
            receiver.check().unwrap_err().0
        };
        let (hook, mail) = ("https://soc.example/", "smtps://mail.example:465");
        assert_eq!(wrong(Kind::Webhook, hook, |one| one.name = "a b".into()), "name");
        assert_eq!(wrong(Kind::Webhook, hook, |one| one.secret = None), "secret");
        assert_eq!(wrong(Kind::Webhook, hook, |one| one.user = "me".into()), "user");
        assert_eq!(wrong(Kind::Webhook, hook, |one| one.to = vec!["a@b.example".into()]), "from");
        assert_eq!(wrong(Kind::Webhook, hook, |one| one.tenants = vec!["acme".into()]), "tenants");
        assert_eq!(wrong(Kind::Webhook, hook, |one| one.timeout_ms = 0), "timeout_ms");
        assert_eq!(wrong(Kind::Email, mail, |one| one.from = "nobody".into()), "from");
        assert_eq!(wrong(Kind::Email, mail, |one| one.to.clear()), "to");
        assert_eq!(wrong(Kind::Email, mail, |one| one.certificate = Some("a".into())), "certificate");
        assert_eq!(wrong(Kind::Pagerduty, hook, |one| one.group_by = Some(GroupBy::Tenant)), "group_by");
    }

    #[test]
    fn a_tenant_names_only_what_is_open_to_it() {
        let (a, b) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let named = |name: &str, tenants: Vec<String>| Receiver {
            name: name.into(),
            tenants,
            ..good(Kind::Webhook, "https://x/")
        };
        let receivers = vec![
            named("ops", Vec::new()),
            named("all", vec!["*".into()]),
            named("a", vec![a.to_string()]),
            named("first", Vec::new()),
        ];
        let config = Config { default: vec!["first".into()], receivers };
        let book = config.book();
        let open = |tenant: TenantId| {
            ["ops", "all", "a", "first", "none"].map(|name| book.refuses(tenant, name).is_none())
        };
        assert_eq!(open(a), [false, true, true, true, false]);
        assert_eq!(open(b), [false, true, false, true, false]);
        assert_eq!(open(TenantId::PLATFORM), [true, true, true, true, false]);
        assert_eq!(Config { default: vec!["none".into()], ..config }.unknown_default(), Some("none"));
    }
}
