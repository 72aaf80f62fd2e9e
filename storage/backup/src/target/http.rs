use std::{sync::Arc, time::Duration};

use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector},
};
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::Error;

/// Gives the object stores the one client that they may use: TLS 1.3, no redirects, no proxies from the environment.
#[derive(Debug)]
pub(super) struct Connector(reqwest::Client);

impl Connector {
    pub(super) fn new(roots_pem: Option<&str>, patience: Duration) -> Result<Self, Error> {
        let wrong = |error: &dyn std::error::Error| Error::Target(format!("TLS can't be set up: {error}"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| wrong(&error))?;
        let mut config = match roots_pem {
            None => config.with_platform_verifier().map_err(|error| wrong(&error))?.with_no_client_auth(),
            Some(pem) => config.with_root_certificates(roots(pem)?).with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .connect_timeout(patience)
            .read_timeout(patience)
            .timeout(patience * 4)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| wrong(&error))?;
        Ok(Self(client))
    }
}

fn roots(pem: &str) -> Result<RootCertStore, Error> {
    let wrong = |why: String| Error::Target(format!("the certificates to trust can't be read: {why}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("there is none".into())) } else { Ok(roots) }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}
