use rustls::{CertificateError, Error};

/// Returns the reason of a failed handshake as a constant, for counters and the audit log.
pub(super) fn reason(error: &std::io::Error) -> &'static str {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return "disconnected";
    };
    match tls {
        Error::InvalidCertificate(certificate) => certificate_reason(certificate),
        // The other side refused our certificate, most often for its name or authority.
        Error::AlertReceived(_) => "refused_by_client",
        Error::PeerIncompatible(_) => "incompatible",
        Error::NoApplicationProtocol => "protocol",
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => "not_tls",
        _ => "failed",
    }
}

/// Returns why a certificate was refused, as a constant.
pub(super) fn certificate_reason(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => "expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "not_yet_valid",
        E::Revoked => "revoked",
        E::UnknownIssuer | E::BadSignature => "unknown_authority",
        E::UnknownRevocationStatus => "revocation_unknown",
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => "revocation_list_expired",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "wrong_purpose",
        _ => "bad_certificate",
    }
}
