use data_encoding::HEXLOWER_PERMISSIVE;
use rcgen::{RevokedCertParams, SerialNumber};
use time::OffsetDateTime;
use x509_parser::{pem::Pem, prelude::FromDer, revocation_list::CertificateRevocationList};

/// What stands on a revocation list, and the number of the next one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Revoked {
    pub(super) next_number: u64,
    certificates: Vec<(Vec<u8>, OffsetDateTime)>,
}

impl Revoked {
    /// Reads a list in PEM.
    pub(super) fn parse(pem: &[u8]) -> Option<Self> {
        let block = Pem::iter_from_buffer(pem).next()?.ok()?;
        let (_, list) = CertificateRevocationList::from_der(&block.contents).ok()?;
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        let certificates = list
            .iter_revoked_certificates()
            .map(|one| (one.raw_serial().to_vec(), one.revocation_date.to_datetime()))
            .collect();
        Some(Self { next_number: number + 1, certificates })
    }

    /// Adds a serial number in hexadecimal; tells whether it is new. `None` if it is no number.
    pub(super) fn add(&mut self, serial: &str, at: OffsetDateTime) -> Option<bool> {
        let digits: String = serial.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
        let even = if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") };
        let bytes =
            HEXLOWER_PERMISSIVE.decode(even.as_bytes()).ok().filter(|b| (1..=20).contains(&b.len()))?;
        if self.certificates.iter().any(|(known, _)| significant(known) == significant(&bytes)) {
            return Some(false);
        }
        self.certificates.push((bytes, at));
        Some(true)
    }

    pub(super) fn into_params(self) -> Vec<RevokedCertParams> {
        let params = |(serial, at): (Vec<u8>, OffsetDateTime)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(significant(&serial)),
            revocation_time: at,
            reason_code: None,
            invalidity_date: None,
        };
        self.certificates.into_iter().map(params).collect()
    }
}

fn significant(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros.min(bytes.len().saturating_sub(1))..]
}
