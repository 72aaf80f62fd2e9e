use std::sync::Arc;

use aesp_proto::{Clock, Timestamp};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Error, clock::TlsClock, pem};
use crate::config;

/// What the files of the configuration say at one moment, ready for handshakes.
pub(crate) struct Material {
    /// For agents, Runtimes and administrators: a client certificate may be shown, and is then verified.
    pub(super) grpc: Arc<ServerConfig>,
    /// For browsers and programs: no client certificate is asked for.
    pub(super) https: Arc<ServerConfig>,
    /// Decides about client certificates, also on connections that are already open.
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// When the node's own certificate ends.
    pub(super) not_after: Timestamp,
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error`], which names the file.
    pub(crate) fn load(files: &config::Tls, clock: &Arc<dyn Clock>) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = pem::certificates(&files.certificate)?;
        let not_after = end_of(&chain).ok_or_else(|| Error::Content {
            path: files.certificate.clone(),
            expected: "certificate that can be parsed",
        })?;
        let key = pem::key(&files.key)?;
        let verifier = verifier(files, &provider)?;
        let build = |verifier: Option<Arc<dyn ClientCertVerifier>>, protocols: &[&[u8]]| {
            server(&provider, clock, verifier, chain.clone(), key.clone_key(), protocols).map_err(|source| {
                Error::Pair { certificate: files.certificate.clone(), key: files.key.clone(), source }
            })
        };
        Ok(Self {
            grpc: build(Some(verifier.clone()), &[b"h2"])?,
            https: build(None, &[b"h2", b"http/1.1"])?,
            verifier,
            not_after,
        })
    }
}

fn server(
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn Clock>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(TlsClock(clock.clone())))
        .with_protocol_versions(&[&TLS13])?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_single_cert(chain, key)?;
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // A resumed session would skip the check of the client's certificate.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(server))
}

pub(super) fn verifier(
    files: &config::Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let unusable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Authorities {
        client_ca: files.client_ca.clone(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(&files.client_ca)? {
        roots.add(certificate).map_err(|error| unusable(error.into()))?;
    }
    let mut lists = Vec::new();
    for path in &files.crls {
        lists.extend(pem::revocation_lists(path)?);
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .with_crls(lists)
        .enforce_revocation_expiration()
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(error.into()))
}

fn end_of(chain: &[CertificateDer<'static>]) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    Some(Timestamp(certificate.validity().not_after.timestamp().saturating_mul(1_000)))
}
