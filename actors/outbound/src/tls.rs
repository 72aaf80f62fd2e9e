//! TLS 1.3 to others: the authorities that the operator names, and this node's client certificate where one is asked for. The files are
//! read again for every use that is told that they changed, so that a rotation needs no restart.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use rustls_platform_verifier::BuilderVerifierExt;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::Endpoint;

/// The files of an endpoint's configuration, as they were read.
pub struct Material {
    ca: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    key: Option<Zeroizing<Vec<u8>>>,
}

impl Material {
    /// Reads them.
    ///
    /// # Errors
    /// Which file can't be read, and why.
    pub fn read(endpoint: &Endpoint) -> Result<Self, String> {
        let read = |path: &Option<std::path::PathBuf>| path.as_deref().map(read).transpose();
        let key = read(&endpoint.certificate_key)?.map(Zeroizing::new);
        Ok(Self { ca: read(&endpoint.ca)?, certificate: read(&endpoint.certificate)?, key })
    }

    /// Returns what is different when any of them is.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let key = self.key.as_ref().map(|key| key.as_slice());
        for part in [self.ca.as_deref(), self.certificate.as_deref(), key] {
            let part = part.unwrap_or_default();
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Makes the configuration of connections.
    ///
    /// # Errors
    /// What can't be used, and why.
    pub fn client(&self) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| format!("TLS 1.3 can't be used: {error}"))?;
        let builder = match &self.ca {
            Some(pem) => builder.with_root_certificates(roots(pem)?),
            None => builder
                .with_platform_verifier()
                .map_err(|error| format!("the system's authorities can't be used: {error}"))?,
        };
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(builder.with_no_client_auth());
        };
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| format!("certificate_key is no PEM key: {error}"))?;
        builder
            .with_client_auth_cert(chain(certificate, "certificate")?, key)
            .map_err(|error| format!("the client certificate can't be used with its key: {error}"))
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in chain(pem, "ca")? {
        roots.add(authority).map_err(|error| format!("ca has a certificate that can't be used: {error}"))?;
    }
    Ok(roots)
}

fn chain(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("{what} is not PEM: {error}"))?;
    if chain.is_empty() { Err(format!("{what} holds no certificate")) } else { Ok(chain) }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{} can't be read: {error}", path.display()))
}
