use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::{Resumption, danger::HandshakeSignatureValid},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    time_provider::TimeProvider,
    version::TLS13,
};
use tokio::sync::watch;

use super::{
    identity::may_serve,
    server_check::{ServerCheck, older},
};

const PROTOCOL: &[u8] = b"h2";

/// What handshakes between peers use: one certificate for both directions, and who decides about the other side's.
#[derive(Debug)]
pub struct Tls {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    time: Arc<dyn TimeProvider>,
}

impl Tls {
    /// Makes the configurations of both sides: TLS 1.3 only, no resumption, a certificate always asked for. `verifier` checks
    /// chains and revocation lists of peers in both directions, so a node's certificate must be good for servers and clients.
    ///
    /// # Errors
    /// When the certificate and the key can't be used together.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        verifier: Arc<dyn ClientCertVerifier>,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(PeerVerifier(verifier.clone())))
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        // A resumed session would skip the check of the peer's certificate.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let own = verifier.clone();
        let servers = ServerCheck::new(
            provider.clone(),
            Box::new(move |end_entity, intermediates, now| {
                check_server(&*own, end_entity, intermediates, now)
            }),
        );
        let mut client = ClientConfig::builder_with_details(provider, time.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(servers))
            .with_client_auth_cert(chain, key)?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Self { server: Arc::new(server), client: Arc::new(client), verifier, time })
    }

    /// Tells why a chain would be refused now, if it would.
    pub(super) fn refusal(&self, chain: &[CertificateDer<'_>]) -> Option<&'static str> {
        let Some((end_entity, intermediates)) = chain.split_first() else { return Some("no_certificate") };
        let Some(now) = self.time.current_time() else { return Some("clock") };
        match self.verifier.verify_client_cert(end_entity, intermediates, now) {
            Ok(_) => None,
            Err(error) => Some(reason(&error)),
        }
    }
}

/// The material in force. New handshakes use what was put here last; open links whose certificate it refuses are ended.
#[derive(Clone, Debug)]
pub struct LiveTls(watch::Sender<Arc<Tls>>);

impl LiveTls {
    /// Starts with `tls`.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self(watch::Sender::new(Arc::new(tls)))
    }

    /// Replaces the material, as when files or revocation lists changed.
    pub fn replace(&self, tls: Tls) {
        self.0.send_replace(Arc::new(tls));
    }

    pub(super) fn load(&self) -> Arc<Tls> {
        self.0.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Tls>> {
        self.0.subscribe()
    }
}

/// Returns the reason of a failed verification or handshake as a constant.
pub(super) fn reason(error: &Error) -> &'static str {
    use CertificateError as E;
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            E::Expired | E::ExpiredContext { .. } => "expired",
            E::NotValidYet | E::NotValidYetContext { .. } => "not_yet_valid",
            E::Revoked => "revoked",
            E::UnknownIssuer | E::BadSignature => "unknown_authority",
            E::UnknownRevocationStatus => "revocation_unknown",
            E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => "revocation_list_expired",
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => "wrong_purpose",
            _ => "bad_certificate",
        },
        Error::NoCertificatesPresented => "no_certificate",
        Error::AlertReceived(_) => "refused_by_peer",
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "incompatible",
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => "not_tls",
        _ => "handshake_failed",
    }
}

/// Checks a peer that was dialled the same way as one that dials: by chain, lists and time. Names are not DNS names here; the
/// identity in the certificate is compared with the node that is meant, after the handshake and before anything is sent.
fn check_server(
    verifier: &dyn ClientCertVerifier,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    if !may_serve(end_entity) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    verifier.verify_client_cert(end_entity, intermediates, now).map(|_| ())
}

/// Checks a peer that dials. A certificate is not left to its choice.
#[derive(Debug)]
struct PeerVerifier(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(older())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
