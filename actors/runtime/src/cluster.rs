//! The other nodes of the cluster: what their Runtimes fulfil, and calls that go there or come from there.

mod announce;
mod elsewhere;
mod followed;
mod fulfilment;
mod late;
mod newest;
mod order;
mod remote;
mod serve;
mod wire;

use std::sync::{Arc, Mutex, OnceLock};

use aesp_proto::{
    Incarnation,
    v1::{RuntimeConnected, RuntimesTell, runtimes_tell::Tell},
};
use bytes::Bytes;
use prost::Message as _;
use tokio::sync::Notify;

use self::{announce::Teller, fulfilment::Announced};
pub(crate) use self::{
    announce::{join, peer_up, told},
    elsewhere::{Elsewhere, Place, Wanted, Whither},
    fulfilment::{Figures, MAX_ROWS, Rows},
    late::ask as ask_late,
    newest::newest,
    remote::{RemoteCall, dispatch},
    serve::asked,
};
use crate::Peers;

/// This node's part in the cluster, as far as Runtimes are concerned. A node without peers holds it, too.
#[derive(Default)]
pub(crate) struct Cluster {
    joined: OnceLock<Joined>,
    pub(crate) elsewhere: Elsewhere,
    /// INVARIANT: held while tables and changes are told, so that every peer hears of versions in their order.
    announced: Mutex<Announced>,
    /// Connections that peers hear of after what they offer.
    connected: Mutex<Vec<RuntimeConnected>>,
    changed: Arc<Notify>,
    teller: OnceLock<Teller>,
}

struct Joined {
    own: Incarnation,
    peers: Arc<dyn Peers>,
}

impl Cluster {
    /// Returns this node's incarnation, once it is one of several.
    pub(crate) fn own(&self) -> Option<Incarnation> {
        self.joined.get().map(|joined| joined.own)
    }

    fn peers(&self) -> Option<&Arc<dyn Peers>> {
        self.joined.get().map(|joined| &joined.peers)
    }

    fn tell(&self, to: Incarnation, tell: Tell) {
        if let Some(peers) = self.peers() {
            peers.tell(to, encode(tell));
        }
    }
}

fn encode(tell: Tell) -> Bytes {
    RuntimesTell { tell: Some(tell) }.encode_to_vec().into()
}
