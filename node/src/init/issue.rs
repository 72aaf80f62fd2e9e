use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_proto::Timestamp;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};

use super::{
    authority::{Authority, Error, moment},
    files,
};
use crate::tls::serial_text;

const TRUST_DOMAIN: &str = "spiffe://aesp.local";
/// The names by which a client on the same machine reaches the node.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Clocks of machines that talk differ by less.
const CLOCK_SLACK_MS: i64 = 300_000;

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A listener, by the names and addresses that clients use. No client can be it.
    Server(Vec<String>),
    /// A node: `spiffe://aesp.local/node/<name>`, for servers and clients, with the names and addresses that clients use.
    Node { name: String, names: Vec<String> },
    /// A Runtime: `spiffe://aesp.local/runtime/<id>`, in a zone.
    Runtime { id: String, zone: Option<String> },
    /// A person or program that administers: `spiffe://aesp.local/admin/<name>`.
    Administrator(String),
}

impl Subject {
    /// Describes a listener that is reached from its own machine and by these further names.
    pub(crate) fn server(further: &[String]) -> Self {
        Self::Server(with_local(further))
    }

    /// Describes a node that is reached from its own machine and by these further names.
    pub(crate) fn node(name: &str, further: &[String]) -> Self {
        Self::Node { name: name.to_owned(), names: with_local(further) }
    }
}

fn with_local(further: &[String]) -> Vec<String> {
    LOCAL_NAMES.into_iter().map(str::to_owned).chain(further.iter().cloned()).collect()
}

/// A certificate that was made.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) serial: String,
    /// What the Host calls its holder; empty for a listener's.
    pub(crate) identity: String,
}

impl Authority {
    /// Makes a key (mode 0600) and its certificate as `<folder>/<name>.key` and `.pem`, which must not exist.
    pub(crate) fn issue(
        &self,
        subject: &Subject,
        name: &str,
        folder: &Path,
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued, Error> {
        let (mut params, identity) = describe(subject)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = moment(Timestamp(now.0.saturating_sub(CLOCK_SLACK_MS)));
        params.not_after = moment(now.plus(life));
        let serial = self.next_serial();
        let shown = serial_text(&serial.to_bytes());
        params.serial_number = Some(serial);
        let key = KeyPair::generate()?;
        let signed = params.signed_by(&key, self.issuer())?;

        let issued = Issued {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            serial: shown,
            identity,
        };
        let wrong = |source| Error::Files { folder: folder.into(), source };
        files::private(&issued.key, &key.serialize_pem()).map_err(wrong)?;
        files::public(&issued.certificate, &signed.pem()).map_err(wrong)?;
        Ok(issued)
    }
}

fn describe(subject: &Subject) -> Result<(CertificateParams, String), Error> {
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let identity = match subject {
        Subject::Server(names) => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            add_names(&mut params, names)?;
            return Ok((params, String::new()));
        }
        Subject::Node { name, names } => {
            // Links between nodes show one certificate in both directions.
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            add_names(&mut params, names)?;
            format!("{TRUST_DOMAIN}/node/{name}")
        }
        Subject::Runtime { id, zone } => {
            if let Some(zone) = zone {
                params.distinguished_name.push(DnType::OrganizationalUnitName, format!("zone:{zone}"));
            }
            format!("{TRUST_DOMAIN}/runtime/{id}")
        }
        Subject::Administrator(name) => format!("{TRUST_DOMAIN}/admin/{name}"),
    };
    params.subject_alt_names.push(SanType::URI(Ia5String::try_from(identity.as_str())?));
    Ok((params, identity))
}

fn add_names(params: &mut CertificateParams, names: &[String]) -> Result<(), Error> {
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(Ia5String::try_from(name.as_str())?),
        });
    }
    Ok(())
}
