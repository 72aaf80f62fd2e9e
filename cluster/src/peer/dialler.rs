use std::{io, sync::Arc};

use aesp_proto::v1::{PeerBatch, peer_service_client::PeerServiceClient};
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Endpoint};
use tower::service_fn;

use super::{
    Peer, Peers,
    backoff::Backoff,
    identity::Identity,
    link::{Link, Outbound, greeting},
    listener::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
    secured::Dial,
};

/// Keeps the link to one older node: dials, carries the link, and dials again.
pub(super) struct Dialler {
    peers: Peers,
    dial: Arc<dyn Dial>,
    peer: Peer,
}

/// A link that both sides have greeted.
struct Greeted {
    link: Arc<Link>,
    first: PeerBatch,
    inbound: Streaming<PeerBatch>,
    identity: Identity,
}

impl Dialler {
    pub(super) fn new(peers: Peers, dial: Arc<dyn Dial>, peer: Peer) -> Self {
        Self { peers, dial, peer }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let inner = &self.peers.0;
        let mut backoff = Backoff::new(&inner.options.timing);
        while !stop.is_cancelled() {
            let greeted = tokio::select! {
                () = stop.cancelled() => return,
                greeted = timeout(inner.options.timing.handshake, self.connect()) => greeted.unwrap_or(Err("timeout")),
            };
            let outcome = greeted.as_ref().err().copied().unwrap_or("connected");
            inner.metrics.dials.with_label_values(&[outcome]).inc();
            match greeted {
                Ok(Greeted { link, first, inbound, identity }) => {
                    if self.peers.admit(&link).await.is_ok() {
                        backoff.reset();
                        let closing = link.clone();
                        let carried = self.peers.carry(link, first, inbound, identity);
                        tokio::pin!(carried);
                        tokio::select! {
                            _ = &mut carried => {}
                            () = stop.cancelled() => {
                                closing.close();
                                carried.await;
                            }
                        }
                    }
                }
                Err(reason) => {
                    tracing::debug!(peer = %self.peer.incarnation, endpoint = self.peer.endpoint, reason, "peer not reached");
                    // Somebody else is where a node of the cluster should be.
                    if matches!(
                        reason,
                        "wrong_kind" | "wrong_node" | "unknown_authority" | "no_certificate" | "other_store"
                    ) {
                        inner.refusals.note(reason, None);
                    }
                }
            }
            let pause = backoff.pause(&inner.entropy);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn connect(&self) -> Result<Greeted, &'static str> {
        let options = &self.peers.0.options;
        let secured = self.dial.dial(&self.peer).await?;
        let identity = secured.identity().clone();
        let mut once = Some(TokioIo::new(secured));
        let connector = service_fn(move |_| {
            let io = once.take().ok_or_else(|| io::Error::other("a link is one connection"));
            std::future::ready(io)
        });
        let channel = Endpoint::from_static("http://peer")
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect_with_connector(connector)
            .await
            .map_err(|_| "no_http2")?;
        let attempt = self.peers.next_attempt();
        let peer = self.peer.incarnation;
        let hello = options.hello(peer, attempt);
        let link = Link::new(peer, attempt, options.clone(), self.peers.0.metrics.clone(), hello);
        let limit = options.batch_bytes();
        let mut client =
            PeerServiceClient::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit);
        let mut inbound =
            client.link(Outbound(link.clone())).await.map_err(|status| refused(&status))?.into_inner();
        let first = inbound.next().await.and_then(Result::ok);
        let mut first = first.ok_or("refused_by_peer")?;
        let answer = greeting(&mut first).ok_or("no_hello")?;
        link.agree(options.accepts(&answer, &self.peer, attempt)?);
        Ok(Greeted { link, first, inbound, identity })
    }
}

/// Returns why the peer refused the link, as a constant: that it finds another store here concerns this node, too.
fn refused(status: &Status) -> &'static str {
    if status.message() == "other_store" { "other_store" } else { "refused_by_peer" }
}
