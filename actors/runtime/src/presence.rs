use std::sync::{Arc, atomic::Ordering};

use aesp_proto::{Error, ErrorCode};

use crate::{RuntimeSlot, link::Link, record, shared::Shared};

/// A connection's place among the others. Gone with the actor, however that ends.
pub(crate) struct Presence {
    shared: Arc<Shared>,
    link: Arc<Link>,
    pub(crate) slot: Option<RuntimeSlot>,
    /// Why the connection ended; empty when the Runtime left.
    pub(crate) reason: String,
    outstanding: u32,
    queued: usize,
}

impl Presence {
    pub(crate) fn new(shared: &Arc<Shared>, link: &Arc<Link>) -> Self {
        shared.links.insert(link.id, Arc::clone(link));
        let (shared, link) = (Arc::clone(shared), Arc::clone(link));
        Self { shared, link, slot: None, reason: String::new(), outstanding: 0, queued: 0 }
    }

    pub(crate) fn serve(&self) {
        self.link.serving.store(true, Ordering::Release);
        self.shared.wiring.metrics.connections.inc();
    }

    pub(crate) fn gauge(&mut self, outstanding: u32, queued: usize) {
        let metrics = &self.shared.wiring.metrics;
        if outstanding != self.outstanding {
            metrics.outstanding.add(i64::from(outstanding) - i64::from(self.outstanding));
            self.outstanding = outstanding;
        }
        if queued != self.queued {
            let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            metrics.queued.add(signed(queued) - signed(self.queued));
            self.queued = queued;
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.gauge(0, 0);
        self.shared.depart(&self.link);
        if self.link.serving.load(Ordering::Acquire) {
            self.shared.wiring.metrics.connections.dec();
            record::disconnected(&self.shared, &self.link, &self.reason);
        }
        // Without effect when the reason was told already.
        self.link.finish(Error::new(ErrorCode::ServiceUnavailable, "the connection has ended"));
    }
}
