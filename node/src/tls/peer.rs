use std::{net::SocketAddr, sync::Arc};

use aesp_proto::Timestamp;
use data_encoding::HEXLOWER;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use super::Error;

/// What a connection knows of its other end; in the extensions of every request that comes over it.
#[derive(Clone, Debug, Default)]
pub struct PeerInfo {
    /// Where it comes from.
    pub remote: Option<SocketAddr>,
    /// Who it is, when it showed a certificate.
    pub identity: Option<Arc<PeerIdentity>>,
}

/// What a verified client certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The SPIFFE id, or the first DNS name, of its subject alternative names.
    pub identity: String,
    /// Its serial number in lower-case hexadecimal, as `aesp pki revoke` takes it.
    pub serial: String,
    /// SHA-256 over the certificate, in lower-case hexadecimal.
    pub fingerprint: String,
    /// When it ends.
    pub not_after: Timestamp,
    /// The security zone that its authority vouches for: the subject's organizational unit `zone:NAME`.
    pub zone: Option<String>,
}

impl PeerIdentity {
    /// Reads a certificate that the verifier accepted.
    ///
    /// # Errors
    /// [`Error::Nameless`] when its names identify nobody, or more than one workload.
    ///
    /// Source: SPIFFE X.509-SVID §2 (exactly one URI).
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| Error::Nameless("it can't be parsed"))?;
        Ok(Self {
            identity: identity_of(&certificate)?,
            serial: serial_text(certificate.raw_serial()),
            fingerprint: HEXLOWER.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref()),
            not_after: Timestamp(certificate.validity().not_after.timestamp().saturating_mul(1_000)),
            zone: zone_of(&certificate),
        })
    }
}

/// Returns a serial number as people write it: hexadecimal without leading zeros.
pub(crate) fn serial_text(bytes: &[u8]) -> String {
    let text = HEXLOWER.encode(bytes);
    let digits = text.trim_start_matches('0');
    if digits.is_empty() { "0".into() } else { digits.into() }
}

fn identity_of(certificate: &X509Certificate<'_>) -> Result<String, Error> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| Error::Nameless("its subject alternative names can't be parsed"))?
        .ok_or(Error::Nameless("it has no subject alternative name"))?;
    let names = &names.value.general_names;
    let uris: Vec<&str> =
        names.iter().filter_map(|n| if let GeneralName::URI(uri) = n { Some(*uri) } else { None }).collect();
    match uris.as_slice() {
        [uri] if uri.starts_with("spiffe://") => return bounded(uri),
        [] => {}
        [_] => return Err(Error::Nameless("its URI is not a SPIFFE id")),
        _ => return Err(Error::Nameless("it has more than one URI")),
    }
    let dns = names.iter().find_map(|n| if let GeneralName::DNSName(name) = n { Some(*name) } else { None });
    bounded(dns.ok_or(Error::Nameless("it has neither a SPIFFE id nor a DNS name"))?)
}

/// Lets only visible ASCII of a bounded length through: the text goes into logs, records and keys.
fn bounded(name: &str) -> Result<String, Error> {
    if (1..=2_048).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(name.to_owned());
    }
    Err(Error::Nameless("its name has characters that no name has"))
}

fn zone_of(certificate: &X509Certificate<'_>) -> Option<String> {
    let units = certificate.subject().iter_organizational_unit();
    units.filter_map(|unit| unit.as_str().ok()).find_map(|unit| unit.strip_prefix("zone:")).map(str::to_owned)
}
