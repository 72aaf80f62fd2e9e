//! HTTPS to key managers: TLS 1.3, the authorities that the operator names, bounded times.

use std::{fs, path::Path, sync::Arc, time::Duration};

use aesp_storage::Error;
use reqwest::{Client, redirect::Policy};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

/// The system's authorities, where no others are named.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const CONNECT: Duration = Duration::from_millis(1_500);
/// How long one request may take.
const REQUEST: Duration = Duration::from_millis(2_500);
/// A standby node of a key manager may name the active one; nobody goes around in circles.
const REDIRECTS: usize = 2;

/// What proves who a client is: the files of a certificate chain and its key.
pub(crate) type Identity<'a> = Option<(&'a Path, &'a Path)>;

/// Makes a client for this address.
///
/// # Errors
/// [`Error::KeyProvider`] if the address is not encrypted and not on this machine, or a file can't be used.
pub(crate) fn client(address: &str, ca: Option<&Path>, identity: Identity<'_>) -> Result<Client, Error> {
    let encrypted = address.starts_with("https://");
    if !encrypted && !is_local(address) {
        return Err(Error::KeyProvider(format!(
            "{address} is not encrypted; use https://, or http:// on this machine alone"
        )));
    }
    let builder = Client::builder()
        .no_proxy()
        .redirect(Policy::limited(REDIRECTS))
        .https_only(encrypted)
        .connect_timeout(CONNECT)
        .timeout(REQUEST)
        .tls_backend_preconfigured(tls(ca, identity)?);
    builder.build().map_err(|error| Error::KeyProvider(format!("no HTTPS client can be made: {error}")))
}

/// Tells whether an address in plain HTTP does not leave this machine.
pub(crate) fn is_local(address: &str) -> bool {
    let Some(rest) = address.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Tells whether an address in plain HTTP leaves this machine's link at most, as that of a cloud's metadata service.
pub(crate) fn is_link_local(address: &str) -> bool {
    let host = address.strip_prefix("http://").and_then(|rest| rest.split(['/', ':', '?', '#']).next());
    host.and_then(|host| host.parse::<std::net::Ipv4Addr>().ok()).is_some_and(|host| host.is_link_local())
}

/// Makes a client for the metadata service of this machine, which speaks plain HTTP and sends nobody elsewhere.
///
/// # Errors
/// [`Error::KeyProvider`] if the address is another's.
pub(crate) fn link_local(address: &str) -> Result<Client, Error> {
    if !is_link_local(address) && !is_local(address) {
        return Err(Error::KeyProvider(format!("{address} is not the metadata service of this machine")));
    }
    let builder = Client::builder().no_proxy().redirect(Policy::none());
    let builder =
        builder.connect_timeout(CONNECT).timeout(REQUEST).tls_backend_preconfigured(tls(None, None)?);
    builder.build().map_err(|error| Error::KeyProvider(format!("no HTTP client can be made: {error}")))
}

fn tls(ca: Option<&Path>, identity: Identity<'_>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    let path = ca.unwrap_or(Path::new(SYSTEM_AUTHORITIES));
    match chain(path) {
        Ok(authorities) => {
            // Of the system's some may be beyond what is understood; of those that were named, none.
            let (_, ignored) = roots.add_parsable_certificates(authorities);
            if ca.is_some() && (ignored > 0 || roots.is_empty()) {
                return Err(unusable(path, "has a certificate that can't be used"));
            }
        }
        Err(error) if ca.is_some() => return Err(error),
        // Whoever needs none, on this machine, needs no file either; others are told by the handshake.
        Err(error) => tracing::debug!(%error, "the system has no authorities"),
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Error::KeyProvider(format!("TLS 1.3 can't be used: {error}")))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let pem = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| unusable(key, &format!("is no PEM key: {error}")))?;
    builder
        .with_client_auth_cert(chain(certificate)?, private)
        .map_err(|error| unusable(certificate, &format!("can't be used with its key: {error}")))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(path, &format!("is not PEM: {error}")))?;
    if chain.is_empty() { Err(unusable(path, "holds no certificate")) } else { Ok(chain) }
}

fn read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
    let bytes = fs::read(path).map_err(|error| unusable(path, &format!("can't be read: {error}")))?;
    Ok(zeroize::Zeroizing::new(bytes))
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::KeyProvider(format!("{} {why}", path.display()))
}

/// Returns an error's text with those of its causes, without the address, which the caller names.
pub(crate) fn chain_of(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for local in ["http://127.0.0.1:8200", "http://localhost", "http://[::1]:8200/x"] {
            assert!(is_local(local), "{local}");
        }
        let far =
            ["https://127.0.0.1", "http://vault.corp:8200", "http://127.0.0.1.corp", "http://localhost.corp"];
        for address in far {
            assert!(!is_local(address), "{address}");
        }
        let refused = client("http://vault.corp:8200", None, None).unwrap_err().to_string();
        assert!(refused.contains("use https://"), "{refused}");
    }
}
