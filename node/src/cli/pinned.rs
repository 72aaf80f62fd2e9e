//! How a machine that knows nothing but a fingerprint finds the authority to trust.

use std::{io, sync::Arc, time::Duration};

use aesp_cluster::peer::ServerCheck;
use aesp_proto::v1::{GetClusterAuthoritiesRequest, cluster_service_client::ClusterServiceClient};
use aesp_sdk::Endpoint;
use data_encoding::BASE64;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tower::service_fn;

use super::failure::Failure;
use crate::joining::fingerprint;

const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a fingerprint as `openssl x509 -fingerprint -sha256` or `aesp cluster join-token` writes it.
pub(crate) fn fingerprint_text(text: &str) -> Result<String, String> {
    let digits = text.trim().trim_start_matches("sha256:").replace(':', "").to_ascii_lowercase();
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    Err("use the 64 hexadecimal digits of a SHA-256".into())
}

/// Asks a node whose certificate nobody can check yet for its authorities, and returns the one with the fingerprint, PEM. Nothing
/// else is said to that node: the next connection trusts this authority alone.
pub(crate) async fn authority(endpoints: &[Endpoint], wanted: &str) -> Result<Vec<u8>, Failure> {
    let mut last = Failure::usage("no endpoint is given", "give --endpoint");
    for endpoint in endpoints {
        let asked = timeout(PATIENCE, ask(endpoint)).await;
        let asked = asked.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        let pem = match asked {
            Ok(pem) => pem,
            Err(error) => {
                last = Failure::local(
                    format!("{endpoint} can't be asked for its authorities: {error:#}"),
                    "check --endpoint and that the node is up, or bring the authority's file and give --ca",
                );
                continue;
            }
        };
        let mut authorities = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
        let Some(found) = authorities.find(|one| fingerprint(one) == wanted) else {
            return Err(Failure::local(
                format!(
                    "{endpoint} has no authority with this fingerprint: it is not the cluster that you mean, or somebody is in between"
                ),
                "compare: aesp cluster join-token shows the fingerprint, as does openssl x509 -fingerprint -sha256",
            ));
        };
        let text = BASE64.encode(&found);
        return Ok(format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").into_bytes());
    }
    Err(last)
}

async fn ask(endpoint: &Endpoint) -> anyhow::Result<Vec<u8>> {
    let uri: http::Uri = endpoint.to_string().parse()?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or_default();
    let provider = Arc::new(aws_lc_rs::default_provider());
    // Any certificate will do: nothing is believed but what has the fingerprint.
    let anybody = ServerCheck::new(Arc::clone(&provider), Box::new(|_, _, _| Ok(())));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect((host.as_str(), port)).await?;
    let name = ServerName::try_from(host)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let mut once = Some(TokioIo::new(stream));
    let connector = service_fn(move |_| {
        let stream = once.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    let channel =
        tonic::transport::Endpoint::from_static("http://node").connect_with_connector(connector).await?;
    let mut client = ClusterServiceClient::new(channel);
    let answer = client.get_cluster_authorities(GetClusterAuthoritiesRequest {}).await?;
    Ok(answer.into_inner().authorities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_tools_write_them() {
        let plain = "ab".repeat(32);
        let colons = ["AB"; 32].join(":");
        for text in [plain.as_str(), &colons, &format!("sha256:{plain}")] {
            assert_eq!(fingerprint_text(text).unwrap(), plain);
        }
        assert!(fingerprint_text("ab").is_err() && fingerprint_text(&"xy".repeat(32)).is_err());
    }
}
