use std::collections::BTreeMap;

use aesp_proto::Incarnation;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{
    Links,
    gossip::Announcement,
    peer::{PeerError, Topic},
};

/// What the core needs of the links: a seam, so that a simulation can lose and delay what travels.
pub(crate) trait Wire: Send + Sync + 'static {
    /// Asks a node for one answer.
    fn ask(
        &self,
        to: Incarnation,
        topic: Topic,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;

    /// Tells everybody, as far as they can be reached.
    fn tell_all(&self, topic: Topic, payload: Bytes);

    /// Says how this node is.
    fn announce(&self, announcement: Announcement);

    /// Returns who is heard of, and whether they are held for alive.
    fn heard(&self) -> BTreeMap<Incarnation, bool>;

    /// Returns who a link is open to.
    fn connected(&self) -> Vec<Incarnation>;

    /// Returns the protocol of each open link.
    fn spoken(&self) -> BTreeMap<Incarnation, u32>;
}

impl Wire for Links {
    fn ask(
        &self,
        to: Incarnation,
        topic: Topic,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let answer = self.peers.request(to, topic, payload);
        Box::pin(async move { answer?.one().await })
    }

    fn tell_all(&self, topic: Topic, payload: Bytes) {
        self.peers.tell_all(topic, payload);
    }

    fn announce(&self, announcement: Announcement) {
        self.gossip.announce(announcement);
    }

    fn heard(&self) -> BTreeMap<Incarnation, bool> {
        self.gossip.hints().borrow().iter().map(|hint| (hint.incarnation, hint.alive)).collect()
    }

    fn connected(&self) -> Vec<Incarnation> {
        self.peers.connected().borrow().to_vec()
    }

    fn spoken(&self) -> BTreeMap<Incarnation, u32> {
        self.peers.spoken()
    }
}
