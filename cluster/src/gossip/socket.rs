use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use aesp_proto::{Clock, Incarnation};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use chitchat::{
    ChitchatMessage, Deserializable, Serializable,
    transport::{Socket, Transport},
};
use tokio::net::UdpSocket;

use super::{
    Metrics,
    envelope::{self, Stamp},
    secret::ClusterKey,
    window::Windows,
};
use crate::refusal::Refusals;

/// Above what any datagram can be.
const BUFFER_BYTES: usize = 1 << 16;

/// Sends and receives datagrams. UDP, or a test's.
#[async_trait]
pub(super) trait Datagrams: Send + Sync + 'static {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()>;
    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
}

#[async_trait]
impl Datagrams for UdpSocket {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        UdpSocket::send_to(self, datagram, to).await.map(|_sent| ())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        UdpSocket::recv_from(self, buffer).await
    }
}

/// Everything that outlives one socket: keys, windows and the sequence, so that a respawned loop repeats nothing.
pub(super) struct Seal {
    pub(super) own: Incarnation,
    pub(super) cluster: String,
    pub(super) keys: ArcSwap<Vec<ClusterKey>>,
    pub(super) sequence: AtomicU64,
    pub(super) windows: Mutex<Windows>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) refusals: Refusals,
}

impl Seal {
    fn seal(&self, message: &ChitchatMessage) -> Result<Vec<u8>, &'static str> {
        let mut plain = Vec::with_capacity(message.serialized_len());
        message.serialize(&mut plain);
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let stamp = Stamp { sender: self.own, sequence, sent: self.clock.now() };
        let keys = self.keys.load();
        let newest = keys.first().ok_or("sealing")?;
        envelope::seal(newest, &self.cluster, stamp, &plain)
    }

    pub(super) fn open(&self, datagram: &mut [u8]) -> Result<ChitchatMessage, &'static str> {
        let (stamp, mut message) = envelope::open(&self.keys.load(), &self.cluster, datagram)?;
        // Sent back to where it came from, or by a copy of this node.
        if stamp.sender == self.own {
            return Err("own_incarnation");
        }
        let mut windows = self.windows.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        windows.accept(self.clock.now(), stamp.sender, stamp.sequence, stamp.sent)?;
        drop(windows);
        ChitchatMessage::deserialize(&mut message).map_err(|_| "malformed")
    }
}

/// One socket for chitchat: plain messages on its side, sealed datagrams on the other.
pub(super) struct SealedSocket {
    datagrams: Arc<dyn Datagrams>,
    seal: Arc<Seal>,
    buffer: Vec<u8>,
}

#[async_trait]
impl Socket for SealedSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let metrics = &self.seal.metrics;
        match self.seal.seal(&message) {
            Ok(datagram) => match self.datagrams.send_to(&datagram, to).await {
                Ok(()) => {
                    metrics.sent.inc();
                    metrics.sent_bytes.inc_by(datagram.len() as u64);
                }
                // The failure detector of the other side is who notices.
                Err(error) => {
                    metrics.unsent.with_label_values(&["io"]).inc();
                    tracing::debug!(%error, %to, "could not send a gossip datagram");
                }
            },
            Err(reason) => metrics.unsent.with_label_values(&[reason]).inc(),
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let (length, from) = match self.datagrams.recv_from(&mut self.buffer).await {
                Ok(received) => received,
                // An earlier datagram found nobody: says nothing about this socket.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    continue;
                }
                // Ends chitchat's loop, which is respawned on a new socket.
                Err(error) => return Err(error.into()),
            };
            match self.seal.open(&mut self.buffer[..length]) {
                Ok(message) => {
                    self.seal.metrics.received.inc();
                    return Ok((from, message));
                }
                Err(reason) => self.seal.refusals.note(reason, Some(from.ip())),
            }
        }
    }
}

/// Binds addresses. UDP's, or a test's.
#[async_trait]
pub(super) trait Bind: Send + Sync + 'static {
    async fn bind(&self, at: SocketAddr) -> io::Result<(Arc<dyn Datagrams>, SocketAddr)>;
}

pub(super) struct Udp;

#[async_trait]
impl Bind for Udp {
    async fn bind(&self, at: SocketAddr) -> io::Result<(Arc<dyn Datagrams>, SocketAddr)> {
        let socket = UdpSocket::bind(at).await?;
        let at = socket.local_addr()?;
        Ok((Arc::new(socket), at))
    }
}

/// Opens sealed sockets for chitchat. The first one was bound before, to know its port.
pub(super) struct SealedTransport {
    pub(super) bind: Arc<dyn Bind>,
    pub(super) seal: Arc<Seal>,
    pub(super) first: Mutex<Option<Arc<dyn Datagrams>>>,
}

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, at: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let first = self.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let datagrams = match first {
            Some(bound) => bound,
            None => self.bind.bind(at).await?.0,
        };
        Ok(Box::new(SealedSocket { datagrams, seal: self.seal.clone(), buffer: vec![0; BUFFER_BYTES] }))
    }
}
