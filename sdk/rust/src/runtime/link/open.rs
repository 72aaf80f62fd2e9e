use std::{sync::Arc, time::Duration};

use aesp_proto::{
    DispatchId, Error,
    v1::{
        AnnounceRuntimeResponse, DispatchReport, RuntimeFrame, host_frame, runtime_frame::Frame,
        runtime_service_client::RuntimeServiceClient,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Link, held::HeldCalls, lost, send};
use crate::{
    endpoint::Endpoint,
    runtime::{lease::Lease, shared::Shared, status::RuntimeState},
    transport::Connection,
};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const OUTGOING_FRAMES: usize = 1024;
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(5);
const MAX_FRAME_BYTES: usize = 32 << 20;

impl Link {
    /// Announces the Runtime over a fresh connection, and offers its tools. Then the connections that it succeeds may leave.
    pub(crate) async fn open(
        shared: &Arc<Shared>,
        endpoint: &Endpoint,
        connection: &Connection,
        generation: u64,
        succeeded: Vec<CancellationToken>,
    ) -> Result<Self, Error> {
        let (outgoing, frames) = mpsc::channel(OUTGOING_FRAMES);
        send(&outgoing, Frame::Announce(shared.announcement.clone()));
        let mut client = RuntimeServiceClient::new(connection.channel())
            .max_decoding_message_size(MAX_FRAME_BYTES)
            .max_encoding_message_size(MAX_FRAME_BYTES);
        let handshake = async {
            let mut incoming = client.connect(ReceiverStream::new(frames)).await?.into_inner();
            let first = incoming.message().await?;
            Ok::<_, tonic::Status>((incoming, first))
        };
        let (incoming, first) = timeout(HANDSHAKE_LIMIT, handshake)
            .await
            .map_err(|_| lost("the Host did not answer the announcement"))?
            .map_err(|status| match status.details().is_empty() {
                true => connection.broken().because(status),
                false => Error::from_status(&status),
            })?;
        let announced = match first.and_then(|frame| frame.frame) {
            Some(host_frame::Frame::Announced(announced)) => announced,
            Some(host_frame::Frame::Error(refusal)) => return Err(Error::from_details(refusal)),
            Some(host_frame::Frame::GoAway(go)) => {
                return Err(lost(&format!("the node goes away: {}", go.reason)));
            }
            _ => return Err(lost("the Host did not answer the announcement")),
        };
        let heartbeat = match announced.heartbeat_ms {
            0 => DEFAULT_HEARTBEAT,
            ms => Duration::from_millis(ms.into()),
        };
        let lease = Lease::new(
            Duration::from_millis(announced.lease_ms.into()),
            Instant::now(),
            shared.entropy.below(u64::MAX),
        );
        let link = Self {
            shared: Arc::clone(shared),
            generation,
            endpoint: endpoint.clone(),
            outgoing,
            incoming,
            lease,
            heartbeat,
            asked: None,
            leave: CancellationToken::new(),
            leaving: None,
            succeeded,
            held: HeldCalls::new(shared.limits.concurrency as usize),
            rejected: 0,
            reoffer_at: None,
        };
        link.introduce(&announced);
        Ok(link)
    }

    /// Reports what this process has seen before, offers the tools, and delivers what was not acknowledged.
    fn introduce(&self, announced: &AnnounceRuntimeResponse) {
        info!(endpoint = %self.endpoint, connection = announced.connection_id, "runtime announced");
        let shared = &self.shared;
        if self.generation > 0 {
            let (seen, running) = shared.ledger().report();
            let bytes = |ids: Vec<DispatchId>| ids.iter().map(|id| id.as_bytes().to_vec()).collect();
            send(
                &self.outgoing,
                Frame::Report(DispatchReport { seen: bytes(seen), running: bytes(running) }),
            );
        }
        shared.status.send_modify(|status| {
            if !shared.drain.is_cancelled() {
                status.state = RuntimeState::Serving;
            }
            status.endpoint = Some(self.endpoint.clone());
            status.connection_id.clone_from(&announced.connection_id);
            status.fulfilled.clear();
            status.rejected.clear();
            status.registered.clear();
            status.not_registered.clear();
            status.last_error = None;
        });
        // Joined before the names are read, so that a tool offered in between is offered twice and not never.
        shared.join(self.generation, self.outgoing.clone());
        if !shared.drain.is_cancelled() {
            drop(self.outgoing.try_send(shared.fulfill(shared.tool_names())));
            for registration in shared.registrations() {
                drop(self.outgoing.try_send(registration));
            }
        }
        let live = shared.live();
        let held = shared.ledger().redeliver(self.generation, |generation| {
            generation != self.generation && live.contains(&generation)
        });
        if !held.is_empty() {
            info!(results = held.len(), "unacknowledged results are delivered again");
            let outgoing = self.outgoing.clone();
            shared.calls.spawn(async move {
                for result in held {
                    if outgoing.send(RuntimeFrame { frame: Some(Frame::Result(result)) }).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}
