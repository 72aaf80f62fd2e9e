use std::sync::Arc;

use aesp_proto::{Epoch, Incarnation, ShardId};
use aesp_storage::{SHARDS, shard_of};
use tokio::sync::watch;

use crate::{Error, Fence, Lease};

/// Who owns a shard, as this node last read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The owner; nobody before the first claim.
    pub owner: Option<Incarnation>,
    /// Since when.
    pub epoch: Epoch,
    /// What the owner may do with it.
    pub held: Held,
}

/// What this node may do with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Another's, or nobody's.
    No,
    /// This node's.
    Yes,
    /// This node's, and about to be handed over: what runs ends, nothing new begins.
    Leaving,
}

/// The shards as this node sees them: which are its own, and who owns the others. Cheap to clone.
///
/// In a cluster nothing is held at any moment at which the node's lease is not.
#[derive(Clone, Debug)]
pub struct Ownership {
    own: Incarnation,
    lease: Option<Lease>,
    shards: watch::Sender<Arc<[Shard]>>,
}

impl Ownership {
    /// Creates the view of a node that owns nothing yet.
    #[must_use]
    pub fn none(own: Incarnation) -> Self {
        let nobody = Shard { owner: None, epoch: Epoch::default(), held: Held::No };
        Self { own, lease: None, shards: watch::Sender::new(vec![nobody; usize::from(SHARDS)].into()) }
    }

    /// Creates the view of a node that owns nothing yet, and holds only what its lease covers.
    pub(crate) fn under(own: Incarnation, lease: Lease) -> Self {
        Self { lease: Some(lease), ..Self::none(own) }
    }

    /// Creates the view of a node that owns every shard, at the epochs that `Transaction::claim_shards` returned.
    #[must_use]
    pub fn all(own: Incarnation, epochs: &[Epoch]) -> Self {
        let shard = |epoch: &Epoch| Shard { owner: Some(own), epoch: *epoch, held: Held::Yes };
        Self { own, lease: None, shards: watch::Sender::new(epochs.iter().map(shard).collect()) }
    }

    /// Returns this node's incarnation.
    #[must_use]
    pub fn own(&self) -> Incarnation {
        self.own
    }

    /// Returns the proof that this node may begin something for the entity.
    ///
    /// # Errors
    /// [`Error::NotOwner`] if the entity's shard is another's, or leaves this node.
    pub fn fence(&self, entity: &[u8; 16]) -> Result<Fence, Error> {
        let shard = shard_of(entity);
        let seen = self.shard(shard);
        if seen.held == Held::Yes {
            Ok(Fence { shard, epoch: seen.epoch })
        } else {
            Err(Error::NotOwner { shard, owner: seen.owner })
        }
    }

    /// Returns the proof that this node may go on with what runs for the entity: also while its shard leaves, which waits for
    /// that.
    ///
    /// # Errors
    /// [`Error::NotOwner`] if the entity's shard is another's.
    pub fn running_fence(&self, entity: &[u8; 16]) -> Result<Fence, Error> {
        let shard = shard_of(entity);
        let seen = self.shard(shard);
        if seen.held == Held::No {
            return Err(Error::NotOwner { shard, owner: seen.owner });
        }
        Ok(Fence { shard, epoch: seen.epoch })
    }

    /// Tells whether this node may begin anything at all.
    #[must_use]
    pub fn holds_any(&self) -> bool {
        self.may_act() && self.shards.borrow().iter().any(|shard| shard.held == Held::Yes)
    }

    fn may_act(&self) -> bool {
        self.lease.as_ref().is_none_or(Lease::is_held)
    }

    /// Returns what this node knows of a shard.
    ///
    /// # Panics
    /// If the shard is beyond [`SHARDS`]; ids of shards come from `shard_of`.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Shard {
        let seen = self.shards.borrow()[usize::from(shard.0)];
        // The lease is asked at each act: a process that was stopped finds out here, before anybody tells it.
        if seen.held == Held::No || self.may_act() { seen } else { Shard { held: Held::No, ..seen } }
    }

    /// Returns all shards, in their order.
    #[must_use]
    pub fn shards(&self) -> Arc<[Shard]> {
        self.shards.borrow().clone()
    }

    /// Returns a receiver that hears of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<[Shard]>> {
        self.shards.subscribe()
    }

    /// Replaces what this node knows.
    pub fn replace(&self, shards: Arc<[Shard]>) {
        self.shards.send_replace(shards);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_held_shards_give_a_fence() {
        let ownership = Ownership::all(Incarnation(7), &vec![Epoch(3); usize::from(SHARDS)]);
        let entity = [1; 16];
        let fence = ownership.fence(&entity).expect("all are held");
        assert_eq!((fence.shard, fence.epoch), (shard_of(&entity), Epoch(3)));

        for held in [Held::No, Held::Leaving] {
            let mut shards = ownership.shards().to_vec();
            shards[usize::from(fence.shard.0)] = Shard { owner: Some(Incarnation(9)), epoch: Epoch(4), held };
            ownership.replace(shards.into());
            let expected = Error::NotOwner { shard: fence.shard, owner: Some(Incarnation(9)) };
            assert_eq!(ownership.fence(&entity), Err(expected));
            let running = ownership.running_fence(&entity).ok().map(|fence| fence.epoch);
            assert_eq!(running, (held == Held::Leaving).then_some(Epoch(4)), "{held:?}");
        }
    }
}
