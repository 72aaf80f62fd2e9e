use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use aesp_proto::{Error, ErrorCode};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Whom a client trusts and, where it has a certificate, who it is. TLS 1.3 only, provider aws-lc-rs, no session resumption.
#[derive(Clone, Debug)]
pub struct Tls(Source);

#[derive(Clone, Debug)]
enum Source {
    Fixed(Arc<ClientConfig>),
    Files { ca: PathBuf, identity: Option<(PathBuf, PathBuf)> },
}

impl Tls {
    /// Trusts the certificate authorities in `ca_pem`; shows no certificate.
    ///
    /// # Errors
    /// `CONFIGURATION_ERROR` if there is no certificate in the text.
    pub fn from_pem(ca_pem: &[u8]) -> Result<Self, Error> {
        Ok(Self(Source::Fixed(configure(ca_pem, None)?)))
    }

    /// Trusts the certificate authorities in `ca_pem`, and shows the certificate chain in `certificate_pem`.
    ///
    /// # Errors
    /// `CONFIGURATION_ERROR` if a part is missing or key and certificate do not belong together.
    pub fn from_pem_with_identity(
        ca_pem: &[u8],
        certificate_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<Self, Error> {
        Ok(Self(Source::Fixed(configure(ca_pem, Some((certificate_pem, key_pem)))?)))
    }

    /// Reads the same from PEM files: the authorities, and `(certificate chain, key)`. The files are read again at every
    /// new connection, so a renewed certificate is used without a restart.
    ///
    /// # Errors
    /// `CONFIGURATION_ERROR` as above, and where a file can't be read.
    pub fn from_files(ca: impl Into<PathBuf>, identity: Option<(PathBuf, PathBuf)>) -> Result<Self, Error> {
        let tls = Self(Source::Files { ca: ca.into(), identity });
        tls.config()?;
        Ok(tls)
    }

    /// Returns the configuration for one new connection.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        match &self.0 {
            Source::Fixed(config) => Ok(Arc::clone(config)),
            Source::Files { ca, identity: None } => configure(&read(ca)?, None),
            Source::Files { ca, identity: Some((certificate, key)) } => {
                configure(&read(ca)?, Some((&read(certificate)?, &read(key)?)))
            }
        }
    }

    /// Returns whether a client certificate is shown.
    pub(crate) fn has_identity(&self) -> bool {
        match &self.0 {
            Source::Fixed(config) => config.client_auth_cert_resolver.has_certs(),
            Source::Files { identity, .. } => identity.is_some(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|e| {
        refused(format!("{} can't be read: {e}", path.display())).remedy("check the path and its permissions")
    })
}

fn configure(ca: &[u8], identity: Option<(&[u8], &[u8])>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(ca, "the certificate authority")? {
        roots.add(certificate).map_err(|e| refused("the certificate authority can't be used").because(e))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::internal)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|e| refused(format!("the client key is not a PEM private key: {e}")))?;
            builder
                .with_client_auth_cert(chain(certificate, "the client certificate")?, key)
                .map_err(|e| refused(format!("client certificate and key can't be used: {e}")))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn chain(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| refused(format!("{what} is not PEM: {e}")))?;
    if chain.is_empty() {
        return Err(
            refused(format!("{what} holds no certificate")).remedy("give a PEM file with BEGIN CERTIFICATE")
        );
    }
    Ok(chain)
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::ConfigurationError, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let mine = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let pem = mine.cert.pem();
        let good = Tls::from_pem_with_identity(
            pem.as_bytes(),
            pem.as_bytes(),
            mine.signing_key.serialize_pem().as_bytes(),
        );
        assert!(good.expect("belongs together").has_identity());
        let error =
            Tls::from_pem_with_identity(pem.as_bytes(), pem.as_bytes(), other.serialize_pem().as_bytes())
                .expect_err("does not belong together");
        assert_eq!(error.code(), ErrorCode::ConfigurationError);
    }

    #[test]
    fn files_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        assert!(Tls::from_files(&ca, None).is_err());
        fs::write(&ca, rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem()).unwrap();
        let tls = Tls::from_files(&ca, None).expect("is there now");
        fs::write(&ca, "no certificate").unwrap();
        assert!(tls.config().is_err());
    }
}
