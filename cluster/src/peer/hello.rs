use aesp_proto::{Incarnation, v1::PeerHello};

use super::{Options, Peer, version};

impl Options {
    /// Returns how this node greets when it dials.
    pub(super) fn hello(&self, to: Incarnation, attempt: u64) -> PeerHello {
        PeerHello {
            cluster_id: self.cluster.clone(),
            incarnation: self.own.0,
            oldest_protocol: *self.protocols.start(),
            newest_protocol: *self.protocols.end(),
            attempt,
            recipient: to.0,
            birth: self.birth_in(*self.protocols.end()),
        }
    }

    /// An older protocol says nothing of it.
    fn birth_in(&self, protocol: u32) -> String {
        if protocol >= version::PROVES_STORE { self.birth.clone() } else { String::new() }
    }

    /// Returns how this node answers a greeting, in the protocol that both speak best, which stands there twice.
    ///
    /// # Errors
    /// A constant reason.
    pub(super) fn answer(&self, hello: &PeerHello) -> Result<PeerHello, &'static str> {
        self.check(hello)?;
        // One dialler a pair: two that dial each other would never agree which link stays.
        if hello.incarnation <= self.own.0 {
            return Err("wrong_direction");
        }
        let offered = hello.oldest_protocol..=hello.newest_protocol;
        let protocol = version::negotiate(&self.protocols, &offered).ok_or("protocol")?;
        Ok(PeerHello {
            oldest_protocol: protocol,
            newest_protocol: protocol,
            birth: self.birth_in(protocol),
            ..self.hello(Incarnation(hello.incarnation), hello.attempt)
        })
    }

    /// Checks the answer to this node's greeting; returns the protocol that is spoken.
    ///
    /// # Errors
    /// A constant reason.
    pub(super) fn accepts(&self, answer: &PeerHello, peer: &Peer, attempt: u64) -> Result<u32, &'static str> {
        self.check(answer)?;
        let protocol = answer.newest_protocol;
        if answer.incarnation != peer.incarnation.0 || answer.attempt != attempt {
            return Err("wrong_incarnation");
        }
        if answer.oldest_protocol != protocol || !self.protocols.contains(&protocol) {
            return Err("protocol");
        }
        same_store(protocol, peer, &answer.birth)?;
        Ok(protocol)
    }

    fn check(&self, hello: &PeerHello) -> Result<(), &'static str> {
        if hello.cluster_id != self.cluster {
            return Err("wrong_cluster");
        }
        if hello.recipient != self.own.0 {
            return Err("wrong_recipient");
        }
        Ok(())
    }
}

/// Checks that a peer which says this has written the row that this node finds in its own store.
///
/// # Errors
/// `other_store` if it uses another one, such as a copy.
pub(super) fn same_store(protocol: u32, peer: &Peer, birth: &str) -> Result<(), &'static str> {
    if protocol < version::PROVES_STORE || (!birth.is_empty() && peer.birth == birth) {
        return Ok(());
    }
    Err("other_store")
}

/// Returns whether the node's row and its certificate say the same: that is what proves an incarnation.
pub(super) fn proves(peer: &Peer, certificate_name: &str) -> bool {
    peer.name == certificate_name
}
