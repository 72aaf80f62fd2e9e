use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use aesp_proto::Incarnation;
use tokio::sync::watch;

use super::link::Link;

/// The open links, at most one a peer.
pub(super) struct Registry {
    links: RwLock<BTreeMap<Incarnation, Arc<Link>>>,
    connected: watch::Sender<Arc<[Incarnation]>>,
}

/// What stands in the way of a new link.
pub(super) enum Occupied {
    /// A link of an earlier attempt, which must end first.
    ByOlder(Arc<Link>),
    /// A link of a later attempt, or the same: the new one is late.
    ByNewer,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self { links: RwLock::default(), connected: watch::Sender::new(Arc::from([])) }
    }

    pub(super) fn get(&self, peer: Incarnation) -> Option<Arc<Link>> {
        self.read().get(&peer).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.read().values().cloned().collect()
    }

    pub(super) fn connected(&self) -> watch::Receiver<Arc<[Incarnation]>> {
        self.connected.subscribe()
    }

    /// Adds a link unless there is one. Of two the later attempt stays; both sides count the same attempts, so both keep the
    /// same link.
    pub(super) fn insert(&self, link: &Arc<Link>) -> Result<(), Occupied> {
        let mut links = self.links.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        match links.get(&link.peer) {
            Some(other) if other.attempt < link.attempt => Err(Occupied::ByOlder(other.clone())),
            Some(_) => Err(Occupied::ByNewer),
            None => {
                links.insert(link.peer, link.clone());
                self.tell(&links);
                Ok(())
            }
        }
    }

    pub(super) fn remove(&self, link: &Arc<Link>) {
        let mut links = self.links.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if links.get(&link.peer).is_some_and(|other| Arc::ptr_eq(other, link)) {
            links.remove(&link.peer);
            self.tell(&links);
        }
    }

    fn tell(&self, links: &BTreeMap<Incarnation, Arc<Link>>) {
        self.connected.send_replace(links.keys().copied().collect());
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Incarnation, Arc<Link>>> {
        self.links.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
