use std::{sync::Arc, time::Duration};

use aesp_outbound::{Cause, Failure, Material};
use aesp_proto::{chain, v1::AuditEvent};
use async_trait::async_trait;
use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Means, Transport};
use crate::{Config, delivery::Receipt, parcel::Parcel};

/// Syslog over TLS: octet-counted frames (RFC 5425 §4.3).
///
/// Syslog has no acknowledgement. A connection serves one batch: it is closed in the orderly way, and the batch is settled when the receiver
/// has closed its side without an error, which it does after it has read everything; a receiver that goes away with unread bytes resets the
/// connection instead, and the batch is sent again.
pub(super) struct Syslog {
    config: Config,
    host: String,
    port: u16,
    server: ServerName<'static>,
    means: Means,
}

impl Syslog {
    pub(super) fn new(config: &Config, means: Means) -> Result<Self, String> {
        let (host, port) = config.syslog_address().ok_or("target is no address of a syslog receiver")?;
        let server = ServerName::try_from(host.clone()).map_err(|error| format!("target: {error}"))?;
        // What can't be used is told at the start; later it is read for each connection.
        Material::read(&config.endpoint())?.client()?;
        Ok(Self { config: config.clone(), host, port, server, means })
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let unusable = |why: String| Failure::new(Cause::Refused, why);
        let tls = Material::read(&self.config.endpoint())
            .and_then(|material| material.client())
            .map_err(unusable)?;
        let away = |error: std::io::Error| Failure::new(Cause::Unreachable, chain(&error));
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(away)?;
        tcp.set_nodelay(true).map_err(away)?;
        TlsConnector::from(Arc::new(tls)).connect(self.server.clone(), tcp).await.map_err(away)
    }

    async fn send(&self, frames: &[u8]) -> Result<(), Failure> {
        let mut stream = self.connect().await?;
        let broken = |error: std::io::Error| {
            let why =
                format!("the connection broke before the receiver had read everything: {}", chain(&error));
            Failure::new(Cause::Unreachable, why)
        };
        stream.write_all(frames).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        // Sends close_notify and then closes this direction.
        stream.shutdown().await.map_err(broken)?;
        let mut rest = [0; 1024];
        loop {
            match stream.read(&mut rest).await {
                Ok(0) => return Ok(()),
                // A receiver has nothing to say; what it says is passed over.
                Ok(_) => {}
                // It closed the connection without a close_notify of its own, as many do.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

#[async_trait]
impl Transport for Syslog {
    fn encode(&self, event: &AuditEvent) -> Bytes {
        let message = aesp_audit_formats::syslog::event(event, &self.means.node);
        format!("{} {message}", message.len()).into()
    }

    async fn deliver(&self, parcels: &[Arc<Parcel>]) -> Result<Receipt, Failure> {
        let frames: Vec<&[u8]> = parcels.iter().map(|parcel| parcel.bytes.as_ref()).collect();
        let allowed: Duration = self.config.timeout();
        match timeout_at(Instant::now() + allowed, self.send(&frames.concat())).await {
            Ok(sent) => sent.map(|()| Receipt::all(parcels.len())),
            Err(_) => {
                let why = format!("it did not read everything within {} ms", self.config.timeout_ms);
                Err(Failure::new(Cause::Slow, why))
            }
        }
    }
}
