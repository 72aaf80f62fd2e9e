use std::sync::Arc;

use aesp_proto::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// Who is at the other end of a connection: the node that its verified certificate names.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The `<name>` of `spiffe://<trust domain>/node/<name>`.
    pub(crate) name: String,
    /// When the certificate ends.
    pub(crate) not_after: Timestamp,
    /// What was shown, to be verified again when authorities or lists change.
    pub(crate) chain: Arc<[CertificateDer<'static>]>,
}

impl Identity {
    /// Reads a chain that the verifier accepted.
    ///
    /// # Errors
    /// A constant reason; `wrong_kind` for a certificate of somebody who is not a node of the trust domain.
    ///
    /// Source: SPIFFE X.509-SVID §2 (exactly one URI), SPIFFE-ID §2.2 (characters of a path segment).
    pub(crate) fn of(chain: Option<&[CertificateDer<'_>]>, trust_domain: &str) -> Result<Self, &'static str> {
        let chain = chain.filter(|chain| !chain.is_empty()).ok_or("no_certificate")?;
        let (_, certificate) = X509Certificate::from_der(&chain[0]).map_err(|_| "bad_certificate")?;
        let name = node_name(&certificate, trust_domain).ok_or("wrong_kind")?;
        Ok(Self {
            name,
            not_after: Timestamp(certificate.validity().not_after.timestamp().saturating_mul(1_000)),
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
        })
    }
}

fn node_name(certificate: &X509Certificate<'_>, trust_domain: &str) -> Option<String> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let mut uris = names.iter().filter_map(|n| if let GeneralName::URI(uri) = n { Some(*uri) } else { None });
    let (uri, None) = (uris.next()?, uris.next()) else { return None };
    let name = uri.strip_prefix("spiffe://")?.strip_prefix(trust_domain)?.strip_prefix("/node/")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    ((1..=128).contains(&name.len()) && name.bytes().all(plain)).then(|| name.to_owned())
}

/// Tells whether a certificate may be shown by a server: it doesn't limit its use, or allows this one.
pub(super) fn may_serve(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    match certificate.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.server_auth || usage.value.any,
        Err(_) => false,
    }
}
