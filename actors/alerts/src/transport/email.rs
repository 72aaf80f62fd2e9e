use std::{fs, sync::Arc};

use aesp_outbound::{Cause, Failure, LateSecret, cut};
use aesp_proto::{Clock, Entropy};
use async_trait::async_trait;
use data_encoding::HEXLOWER;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        Error as SmtpError,
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters, TlsVersion},
        extension::ClientId,
    },
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{Means, Message, Transport, rfc3339};
use crate::{
    Alert,
    config::{MailServer, Receiver},
    note::Tell,
};

/// Mail by SMTP, over TLS 1.3 from the start or after STARTTLS; never in the clear.
///
/// Source: RFC 5321, RFC 3207, RFC 8314.
pub(super) struct Email {
    receiver: Receiver,
    server: MailServer,
    from: Mailbox,
    to: Vec<Mailbox>,
    secret: LateSecret,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    node: String,
}

/// Bytes of a subject.
const SUBJECT_BYTES: usize = 200;

impl Email {
    pub(super) fn new(receiver: &Receiver, means: &Means) -> Result<Self, String> {
        // The mail crate asks for the process's; whoever was first has installed the same.
        if CryptoProvider::get_default().is_none() {
            drop(aws_lc_rs::default_provider().install_default());
        }
        let mailbox =
            |text: &String| text.parse::<Mailbox>().map_err(|error| format!("{text} is no address: {error}"));
        let email = Self {
            receiver: receiver.clone(),
            server: receiver.mail_server().ok_or("target is no address of a mail server")?,
            from: mailbox(&receiver.from)?,
            to: receiver.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            secret: means.secret(receiver),
            clock: Arc::clone(&means.clock),
            entropy: means.entropy.clone(),
            node: means.node.clone(),
        };
        email.tls()?;
        Ok(email)
    }

    fn tls(&self) -> Result<Tls, String> {
        let mut parameters =
            TlsParameters::builder(self.server.host.clone()).set_min_tls_version(TlsVersion::Tlsv13);
        if let Some(ca) = &self.receiver.ca {
            let pem = fs::read(ca).map_err(|error| format!("{} can't be read: {error}", ca.display()))?;
            let authorities =
                Certificate::from_pem(&pem).map_err(|error| format!("ca can't be used: {error}"))?;
            parameters =
                parameters.certificate_store(CertificateStore::None).add_root_certificate(authorities);
        }
        let parameters = parameters.build().map_err(|error| format!("TLS can't be used: {error}"))?;
        Ok(if self.server.at_once { Tls::Wrapper(parameters) } else { Tls::Required(parameters) })
    }

    fn mail(&self, message: &Message) -> Result<Mail, Failure> {
        let content = |error: &dyn std::fmt::Display| {
            Failure::new(Cause::Content, format!("no mail can be made: {error}"))
        };
        let address: &str = self.from.email.as_ref();
        let (_, domain) = address.rsplit_once('@').unwrap_or(("", "localhost"));
        let mut mail = Mail::builder()
            .from(self.from.clone())
            .subject(subject(message))
            .message_id(Some(format!("<{}@{domain}>", HEXLOWER.encode(&self.entropy.bytes()))))
            // Answers to a mail about a group, and later ones about it, go into one thread.
            .references(format!("<{}@{domain}>", thread(message)))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        mail.body(self.body(message)).map_err(|error| content(&error))
    }

    fn body(&self, message: &Message) -> String {
        let mut out = format!(
            "Tenant: {}\nGroup:  {}\nNode:   {}\nSent:   {}\n",
            message.tenant,
            message.group,
            self.node,
            rfc3339(self.clock.now())
        );
        for (alert, tell) in &message.alerts {
            describe(&mut out, alert, *tell);
        }
        out.push_str(
            "\naesp alert list shows all alerts, aesp alert ack ID says that you take care of one.\n",
        );
        out
    }
}

fn describe(out: &mut String, alert: &Alert, tell: Tell) {
    let status = match tell {
        Tell::Resolved => "RESOLVED",
        Tell::Acknowledged => "ACKNOWLEDGED",
        Tell::Fired | Tell::Again | Tell::Still => "FIRING",
    };
    let mut lines = vec![
        format!("[{status}] {}", alert.summary()),
        format!("alert: {}", alert.id),
        format!("rule: {}", alert.rule),
        format!("severity: {}", alert.severity.name()),
        format!("since: {}", rfc3339(alert.began)),
        format!("value: {}", alert.value),
    ];
    if let Some(ended) = alert.ended {
        lines.push(format!("until: {} ({})", rfc3339(ended), alert.ended_because));
    }
    lines.extend(alert.labels.iter().map(|(name, value)| format!("{name}: {value}")));
    let texts = alert.annotations.iter().filter(|(name, _)| *name != "summary");
    lines.extend(texts.map(|(name, value)| format!("{name}: {}", value.replace('\n', "\n    "))));
    out.push('\n');
    out.push_str(&lines.join("\n  "));
    out.push('\n');
}

fn subject(message: &Message) -> String {
    let over = message.alerts.iter().all(|(_, tell)| *tell == Tell::Resolved);
    let word = if over { "RESOLVED" } else { "ALERT" };
    let worst = message.alerts.iter().map(|(alert, _)| alert.severity).max().unwrap_or_default();
    let first = message.alerts.first().map(|(alert, _)| alert.summary()).unwrap_or_default();
    let more = match message.alerts.len() {
        0 | 1 => String::new(),
        many => format!(" (and {} more)", many - 1),
    };
    // In one line: nobody's text may begin another header.
    let text = cut(format!("[AESP {word}] {}: {first}{more}", worst.name()));
    text[..text.floor_char_boundary(SUBJECT_BYTES)].to_owned()
}

fn thread(message: &Message) -> String {
    let digest = Sha256::digest(format!("{}\0{}", message.tenant, message.group));
    HEXLOWER.encode(&digest[..16])
}

#[async_trait]
impl Transport for Email {
    async fn deliver(&self, message: &Message) -> Result<(), Failure> {
        let mail = self.mail(message)?;
        let refused = |why: String| Failure::new(Cause::Refused, why);
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(self.server.host.clone())
            .port(self.server.port)
            .tls(self.tls().map_err(refused)?)
            .hello_name(ClientId::Domain("aesp.invalid".to_owned()))
            .timeout(Some(self.receiver.timeout()));
        if let Some(secret) = self.secret.newest().await? {
            builder =
                builder.credentials(Credentials::new(self.receiver.user.clone(), secret.expose().to_owned()));
        }
        match timeout(self.receiver.timeout(), builder.build().send(mail)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => {
                let why = format!("the mail was not taken within {} ms", self.receiver.timeout_ms);
                Err(Failure::new(Cause::Slow, why))
            }
        }
    }
}

/// Tells what an error of SMTP means. Codes: RFC 5321 §4.2.3, RFC 4954 §6.
fn failure(error: &SmtpError) -> Failure {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        why = format!("{why}: {error}");
        source = error.source();
    }
    let code = error.status().map(u16::from).unwrap_or_default();
    let cause = match code {
        // Who sends must prove who it is, or may not send; the addresses are wrong.
        530 | 534 | 535 | 538 | 550 | 551 | 553 => Cause::Refused,
        552 | 554 if error.is_permanent() => Cause::Content,
        _ if error.is_permanent() => Cause::Refused,
        _ if error.is_transient() => Cause::Busy,
        _ if error.is_timeout() => Cause::Slow,
        _ if error.is_response() => Cause::Garbled,
        _ if error.is_client() => Cause::Refused,
        _ => Cause::Unreachable,
    };
    Failure::new(cause, why)
}

#[cfg(test)]
mod tests {
    use aesp_proto::TenantId;

    use super::*;

    #[test]
    fn nobodys_text_begins_another_header() {
        let mut alert = crate::sample::alert("r");
        alert.annotations.insert("summary".into(), format!("a\r\nBcc: x@y.example\r\n{}", "ä".repeat(300)));
        let alerts = vec![(alert.clone(), Tell::Fired), (alert, Tell::Still)];
        let message = Message { tenant: TenantId::PLATFORM, group: "g".into(), alerts };
        let subject = subject(&message);
        assert!(subject.starts_with("[AESP ALERT] medium: a  Bcc") && subject.len() <= SUBJECT_BYTES);
        assert!(!subject.contains(['\r', '\n']));
    }
}
