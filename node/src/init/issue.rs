use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_proto::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls::pki_types::CertificateSigningRequestDer;

use super::{
    authority::{Authority, Error, moment},
    files,
};
use crate::tls::serial_text;

/// Of everybody whom the development authority names by itself.
const TRUST_DOMAIN: &str = "aesp.local";
/// The longest request that is looked at.
const LONGEST_REQUEST_BYTES: usize = 16 << 10;
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

/// A certificate for a key that somebody else has.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) pem: String,
    pub(crate) serial: String,
    pub(crate) identity: String,
}

/// A certificate request whose signature shows that its sender has the key.
pub(crate) struct SigningRequest(CertificateSigningRequestParams);

impl SigningRequest {
    /// Reads PKCS#10 in DER.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub(crate) fn read(der: &[u8]) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Request(what.into());
        if der.is_empty() || der.len() > LONGEST_REQUEST_BYTES {
            return Err(wrong("it is empty, or longer than 16 kB"));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|error| Error::Request(error.to_string()))?;
        let known = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        if !known.iter().any(|known| *known == request.public_key.algorithm()) {
            return Err(wrong("its key is neither ECDSA P-256, ECDSA P-384 nor Ed25519"));
        }
        Ok(Self(request))
    }
}

impl Authority {
    /// Signs a certificate for the key of a request, of which nothing but the key is believed.
    pub(crate) fn sign(
        &self,
        request: SigningRequest,
        subject: &Subject,
        trust_domain: &str,
        now: Timestamp,
        life: Duration,
    ) -> Result<Signed, Error> {
        let SigningRequest(CertificateSigningRequestParams { public_key, .. }) = request;
        let (params, identity) = describe(subject, trust_domain)?;
        let name = if let Subject::Node { name, .. } = subject { name.as_str() } else { &identity };
        let (params, serial) = self.dated(params, name, now, life);
        let signed = CertificateSigningRequestParams { params, public_key }.signed_by(self.issuer())?;
        Ok(Signed { pem: signed.pem(), serial, identity })
    }

    /// Adds what all certificates have; returns the serial number, too.
    fn dated(
        &self,
        mut params: CertificateParams,
        name: &str,
        now: Timestamp,
        life: Duration,
    ) -> (CertificateParams, String) {
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = moment(Timestamp(now.0.saturating_sub(CLOCK_SLACK_MS)));
        params.not_after = moment(now.plus(life));
        let serial = self.next_serial();
        let shown = serial_text(&serial.to_bytes());
        params.serial_number = Some(serial);
        (params, shown)
    }

    /// Makes a key (mode 0600) and its certificate as `<folder>/<name>.key` and `.pem`, which must not exist.
    pub(crate) fn issue(
        &self,
        subject: &Subject,
        name: &str,
        folder: &Path,
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued, Error> {
        let (params, identity) = describe(subject, TRUST_DOMAIN)?;
        let (params, serial) = self.dated(params, name, now, life);
        let key = KeyPair::generate()?;
        let signed = params.signed_by(&key, self.issuer())?;

        let issued = Issued {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            serial,
            identity,
        };
        let wrong = |source| Error::Files { folder: folder.into(), source };
        files::private(&issued.key, key.serialize_pem()).map_err(wrong)?;
        files::public(&issued.certificate, signed.pem()).map_err(wrong)?;
        Ok(issued)
    }
}

fn describe(subject: &Subject, trust_domain: &str) -> Result<(CertificateParams, String), Error> {
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
            format!("spiffe://{trust_domain}/node/{name}")
        }
        Subject::Runtime { id, zone } => {
            if let Some(zone) = zone {
                params.distinguished_name.push(DnType::OrganizationalUnitName, format!("zone:{zone}"));
            }
            format!("spiffe://{trust_domain}/runtime/{id}")
        }
        Subject::Administrator(name) => format!("spiffe://{trust_domain}/admin/{name}"),
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

#[cfg(test)]
mod tests {
    use aesp_proto::{Clock, Entropy, SystemClock};
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::tls::PeerIdentity;

    fn request(key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.subject_alt_names = vec![SanType::DnsName("bank.example".try_into().unwrap())];
        params.serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn only_the_key_of_a_request_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Authority::create(folder.path(), now, &Entropy::from_system()).unwrap();
        let key = KeyPair::generate().unwrap();
        let read = SigningRequest::read(&request(&key)).unwrap();
        let subject = Subject::node("n4", &["n4.example".to_owned()]);
        let signed = authority.sign(read, &subject, "corp.example", now, Duration::from_secs(60)).unwrap();
        assert_eq!(signed.identity, "spiffe://corp.example/node/n4");
        let der = rustls::pki_types::CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap();
        let named = PeerIdentity::parse(&der).unwrap();
        assert_eq!((named.identity, named.serial), (signed.identity, signed.serial));
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(certificate.public_key().subject_public_key.data, key.public_key_raw());
        assert!(!certificate.is_ca());
        let names = format!("{:?}", certificate.subject_alternative_name());
        assert!(names.contains("n4.example") && !names.contains("bank.example"), "{names}");
    }

    #[test]
    fn a_request_without_its_key_is_none() {
        let good = request(&KeyPair::generate().unwrap());
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        let cut = &good[..good.len() / 2];
        for wrong in [&forged[..], cut, b"", b"no request", &vec![0x30; LONGEST_REQUEST_BYTES + 1]] {
            assert!(matches!(SigningRequest::read(wrong), Err(Error::Request(_))));
        }
        assert!(SigningRequest::read(&good).is_ok());
    }
}
