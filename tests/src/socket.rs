use std::{io, net::SocketAddr, sync::Arc};

use anyhow::Context;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use crate::{Certificate, Host};

impl Host {
    /// Opens a TLS connection on which nothing is said yet, to whoever has a certificate for `name`; shows `certificate` if
    /// there is one.
    ///
    /// # Errors
    /// When a file can't be read or the handshake fails.
    pub async fn socket(
        &self,
        name: &str,
        certificate: Option<&Certificate>,
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        self.secured(self.grpc(), name, certificate, true).await
    }

    /// Opens one to where other nodes reach this one, with a certificate.
    ///
    /// # Errors
    /// As [`Host::socket`], and when the node is alone.
    pub async fn peer_socket(
        &self,
        name: &str,
        certificate: &Certificate,
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        self.secured(self.peers().context("the node is alone")?, name, Some(certificate), true).await
    }

    async fn secured(
        &self,
        at: SocketAddr,
        name: &str,
        certificate: Option<&Certificate>,
        http2: bool,
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_file_iter(self.ca())? {
            roots.add(authority?)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_file_iter(&own.certificate)?.collect::<Result<_, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&own.key)?)?
            }
        };
        config.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        let socket = TcpStream::connect(at).await?;
        let name = ServerName::try_from(name.to_owned())?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, socket).await?)
    }

    /// Asks the HTTPS listener for a path, with HTTP/1.1; returns the whole answer as it came.
    ///
    /// # Errors
    /// When the node can't be reached or ends the connection early.
    pub async fn get(&self, path: &str, token: Option<&str>) -> anyhow::Result<Vec<u8>> {
        let mut socket = self.secured(self.https(), "localhost", None, false).await?;
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        Ok(answer)
    }

    /// Returns a channel that adds nothing to requests, no authorization above all.
    ///
    /// # Errors
    /// When the node can't be reached.
    pub async fn bare(&self) -> anyhow::Result<Channel> {
        let mut socket = Some(TokioIo::new(self.socket("localhost", None).await?));
        let connector = tower::service_fn(move |_| {
            let socket = socket.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
            async move { socket }
        });
        // The scheme keeps tonic from adding a TLS layer of its own.
        let endpoint = Endpoint::from_shared(self.url().replacen("https", "http", 1))?;
        endpoint.connect_with_connector(connector).await.context("HTTP/2 could not be started")
    }
}
