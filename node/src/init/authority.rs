use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_proto::{Entropy, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;

use super::{files, revoked::Revoked};

/// The development authority and its list live about as long as a development does.
const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Why the development authority can't do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its folder has no authority, or can't be read or written.
    #[error("the development authority in {} can't be used: {source}", folder.display())]
    Files { folder: PathBuf, source: std::io::Error },
    /// A file doesn't hold what it should.
    #[error("the development authority in {} is damaged: {what}", folder.display())]
    Damaged { folder: PathBuf, what: String },
    /// A name can't stand in a certificate.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate request is no such thing, or its sender does not have the key.
    #[error("the certificate request can't be used: {0}")]
    Request(String),
    /// A serial number that none has.
    #[error("`{0}` is not a serial number: give its hexadecimal digits")]
    Serial(String),
}

/// The development authority: a folder with `ca.pem`, `ca.key` and `ca.crl`.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    entropy: Entropy,
}

impl Authority {
    /// Makes one in an existing folder that has none.
    pub(crate) fn create(folder: &Path, now: Timestamp, entropy: &Entropy) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "AESP development authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial(entropy));
        (params.not_before, params.not_after) = (moment(now), moment(now.plus(LIFE)));
        let certificate = params.self_signed(&key)?;
        let wrong = |source| Error::Files { folder: folder.into(), source };
        files::private(&folder.join("ca.key"), key.serialize_pem()).map_err(wrong)?;
        files::public(&folder.join("ca.pem"), certificate.pem()).map_err(wrong)?;
        let issuer = Issuer::new(params, key);
        let authority = Self { folder: folder.into(), issuer, entropy: entropy.clone() };
        authority.publish(Revoked::default(), now)?;
        Ok(authority)
    }

    /// Opens the one in a folder.
    pub(crate) fn open(folder: &Path, entropy: &Entropy) -> Result<Self, Error> {
        let read = |name: &str| {
            let wrong = |source| Error::Files { folder: folder.into(), source };
            fs::read_to_string(folder.join(name)).map_err(wrong)
        };
        let damaged = |what: &str| Error::Damaged { folder: folder.into(), what: what.into() };
        let key = KeyPair::from_pem(&read("ca.key")?).map_err(|_| damaged("ca.key holds no key"))?;
        let issuer = Issuer::from_ca_cert_pem(&read("ca.pem")?, key)
            .map_err(|_| damaged("ca.pem holds no authority"))?;
        Ok(Self { folder: folder.into(), issuer, entropy: entropy.clone() })
    }

    /// Adds a certificate to the revocation list; returns whether it was not on it yet.
    pub(crate) fn revoke(&self, serial: &str, now: Timestamp) -> Result<bool, Error> {
        let mut revoked = self.revoked()?;
        let added = revoked.add(serial, moment(now)).ok_or_else(|| Error::Serial(serial.into()))?;
        self.publish(revoked, now)?;
        Ok(added)
    }

    fn revoked(&self) -> Result<Revoked, Error> {
        let pem = fs::read(self.folder.join("ca.crl"))
            .map_err(|source| Error::Files { folder: self.folder.clone(), source })?;
        Revoked::parse(&pem).ok_or_else(|| Error::Damaged {
            folder: self.folder.clone(),
            what: "ca.crl holds no list".into(),
        })
    }

    fn publish(&self, revoked: Revoked, now: Timestamp) -> Result<(), Error> {
        let list = CertificateRevocationListParams {
            this_update: moment(now),
            next_update: moment(now.plus(LIFE)),
            crl_number: SerialNumber::from(revoked.next_number),
            issuing_distribution_point: None,
            revoked_certs: revoked.into_params(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let text = list.signed_by(&self.issuer)?.pem()?;
        files::replace(&self.folder.join("ca.crl"), &text)
            .map_err(|source| Error::Files { folder: self.folder.clone(), source })
    }

    /// Returns its own certificate, DER.
    pub(crate) fn certificate(&self) -> Result<CertificateDer<'static>, Error> {
        CertificateDer::from_pem_file(self.folder.join("ca.pem")).map_err(|_| Error::Damaged {
            folder: self.folder.clone(),
            what: "ca.pem holds no certificate".into(),
        })
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn next_serial(&self) -> SerialNumber {
        serial(&self.entropy)
    }
}

/// Returns a random positive serial number of 16 bytes.
///
/// Source: RFC 5280 §4.1.2.2.
fn serial(entropy: &Entropy) -> SerialNumber {
    let mut bytes = entropy.bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Returns a time for a certificate; far outside its range, the epoch.
pub(super) fn moment(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.0 / 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
