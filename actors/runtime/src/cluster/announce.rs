use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use aesp_proto::{
    ConnectionId, DispatchId, Incarnation,
    v1::{
        DispatchAck, FulfilmentResync, FulfilmentVersion, RuntimeConnected, RuntimesTell, runtimes_tell::Tell,
    },
};
use bytes::Bytes;
use prost::Message as _;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use super::{Cluster, Joined, encode, fulfilment::Announced, newest};
use crate::{Peers, shared::Shared};

/// Changes of who fulfils what wait so long for others.
const GATHER: Duration = Duration::from_millis(5);
/// How often the load is looked at.
const TICK: Duration = Duration::from_millis(200);
/// After so many quiet ticks the version is told, for whoever missed the last change.
const QUIET_TICKS: u32 = 5;

/// The task that tells peers what has changed. Ends with the node's Runtimes.
pub(super) struct Teller(JoinHandle<()>);

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes the node one of several.
pub(crate) fn join(shared: &Arc<Shared>, own: Incarnation, peers: Arc<dyn Peers>) {
    if shared.cluster.joined.set(Joined { own, peers }).is_err() {
        warn!("a node joins its cluster once");
        return;
    }
    let (weak, changed) = (Arc::downgrade(shared), Arc::clone(&shared.cluster.changed));
    let task = tokio::spawn(async move {
        let mut quiet = 0;
        loop {
            if timeout(TICK, changed.notified()).await.is_ok() {
                sleep(GATHER).await;
            }
            let Some(shared) = weak.upgrade() else { return };
            quiet = if shared.cluster.flush(&shared) { 0 } else { quiet + 1 };
            if quiet >= QUIET_TICKS {
                quiet = 0;
                shared.cluster.tell_version();
            }
        }
    });
    // Joined once, so there is none yet.
    let _ = shared.cluster.teller.set(Teller(task));
}

/// Follows a peer, and tells it everything.
pub(crate) fn peer_up(shared: &Arc<Shared>, peer: Incarnation) {
    let cluster = &shared.cluster;
    cluster.elsewhere.up(peer);
    // Whatever has changed goes to everybody else first, so that all know the same version.
    cluster.flush(shared);
    cluster.tell_all_of(peer);
    for connected in newest::serving(shared) {
        cluster.tell(peer, Tell::Connected(connected));
    }
}

/// Takes what a peer told.
pub(crate) fn told(shared: &Arc<Shared>, from: Incarnation, payload: Bytes) {
    let Ok(RuntimesTell { tell: Some(tell) }) = RuntimesTell::decode(payload) else {
        return debug!(peer = %from, "a peer told something that this release does not know");
    };
    let cluster = &shared.cluster;
    match tell {
        Tell::Resync(_) => cluster.tell_all_of(from),
        Tell::Connected(connected) => newest::elsewhere(shared, from, &connected),
        Tell::Ack(ack) => acknowledged(shared, &ack),
        table => {
            if cluster.elsewhere.told(from, table, Instant::now()) {
                shared.wiring.metrics.resyncs.inc();
                cluster.tell(from, Tell::Resync(FulfilmentResync {}));
            }
            cluster.count(shared);
        }
    }
}

fn acknowledged(shared: &Shared, ack: &DispatchAck) {
    if let (Ok(dispatch), Ok(connection)) =
        (DispatchId::from_slice(&ack.dispatch_id), ConnectionId::from_slice(&ack.connection_id))
    {
        shared.acknowledge_at(connection, &ack.identity, dispatch);
    }
}

impl Cluster {
    /// Has peers hear soon of what this node's Runtimes fulfil now.
    pub(crate) fn touched(&self) {
        self.changed.notify_one();
    }

    /// Has peers hear of a connection, after what it offers.
    pub(super) fn connected(&self, connected: RuntimeConnected) {
        if self.joined.get().is_some() {
            self.connected.lock().unwrap_or_else(PoisonError::into_inner).push(connected);
            self.changed.notify_one();
        }
    }

    /// Tells every peer what has changed; returns whether anything had.
    fn flush(&self, shared: &Shared) -> bool {
        let connected = std::mem::take(&mut *self.connected.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(peers) = self.peers().filter(|_| !self.elsewhere.is_empty()) else { return false };
        let mut announced = self.announced();
        let (rows, left_out) = shared.table.rows();
        let changes = announced.advance(rows);
        let told = !changes.is_empty() || !connected.is_empty();
        for change in changes {
            peers.tell_all(encode(Tell::Change(change)));
        }
        drop(announced);
        for connected in connected {
            peers.tell_all(encode(Tell::Connected(connected)));
        }
        if left_out && told {
            warn!("this node's runtimes fulfil more contracts than its peers are told of");
        }
        told
    }

    fn tell_version(&self) {
        if let Some(peers) = self.peers() {
            let version = self.announced().version();
            peers.tell_all(encode(Tell::Version(FulfilmentVersion { version })));
        }
    }

    /// Tells one peer the whole table.
    fn tell_all_of(&self, peer: Incarnation) {
        let announced = self.announced();
        for part in announced.table() {
            self.tell(peer, Tell::Table(part));
        }
    }

    fn announced(&self) -> MutexGuard<'_, Announced> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, shared: &Shared) {
        let rows = i64::try_from(self.elsewhere.rows()).unwrap_or(i64::MAX);
        shared.wiring.metrics.peer_contracts.set(rows);
    }
}
