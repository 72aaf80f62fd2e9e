use std::sync::Arc;

use aesp_proto::{Epoch, Incarnation, ShardId};
use aesp_storage::{SHARDS, ShardRow};

use crate::{Held, Shard};

/// What this node has in its hands: the shards as the store last showed them, and what it does with its own. Does no I/O: what
/// is to be done comes out as [`Change`]s, after [`Holdings::shards`] shows it.
#[derive(Debug)]
pub(crate) struct Holdings {
    own: Incarnation,
    slots: Vec<Slot>,
    /// Whether this node may act: its lease is held, and the shards were read since it is.
    able: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    row: ShardRow,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Away,
    Held,
    Leaving {
        /// Whether nothing of it runs here any more.
        ended: bool,
    },
}

/// What the node's duties are to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The shard is held since this epoch.
    Arrive(ShardId, Epoch),
    /// The shard is held no more.
    Lose(ShardId),
}

impl Holdings {
    pub(crate) fn new(own: Incarnation) -> Self {
        let slot = Slot { row: ShardRow::default(), stage: Stage::Away };
        Self { own, slots: vec![slot; usize::from(SHARDS)], able: false }
    }

    /// Notes what was read or written of some shards. What is older than what is known already says nothing.
    pub(crate) fn see(&mut self, rows: impl IntoIterator<Item = (ShardId, ShardRow)>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (shard, row) in rows {
            let (own, able) = (self.own, self.able);
            let Some(slot) = self.slots.get_mut(usize::from(shard.0)) else { continue };
            if row.epoch < slot.row.epoch {
                continue;
            }
            if row != slot.row {
                changes.extend(slot.put_away(shard));
                slot.row = row;
            }
            if able && slot.stage == Stage::Away && row.owner == Some(own) {
                slot.stage = Stage::Held;
                changes.push(Change::Arrive(shard, row.epoch));
            }
        }
        changes
    }

    /// Notes that the row of a shard makes no sense: nobody can write under it, so nobody begins anything.
    pub(crate) fn hide(&mut self, shard: ShardId) -> Option<Change> {
        self.slots.get_mut(usize::from(shard.0))?.put_away(shard)
    }

    /// Lets this node act, from the next shard that it sees on.
    pub(crate) fn enable(&mut self) {
        self.able = true;
    }

    /// Tells whether this node may act.
    pub(crate) fn is_able(&self) -> bool {
        self.able
    }

    /// Takes everything out of this node's hands.
    pub(crate) fn disable(&mut self) -> Vec<Change> {
        self.able = false;
        let slots = self.slots.iter_mut().zip(0..);
        slots.filter_map(|(slot, shard)| slot.put_away(ShardId(shard))).collect()
    }

    /// Begins to hand a shard over; returns its epoch. None if it is not held.
    pub(crate) fn leave(&mut self, shard: ShardId) -> Option<Epoch> {
        let slot = self.slots.get_mut(usize::from(shard.0))?;
        if slot.stage != Stage::Held {
            return None;
        }
        slot.stage = Stage::Leaving { ended: false };
        Some(slot.row.epoch)
    }

    /// Notes that nothing of a leaving shard runs any more. Returns whether it is still to be handed over.
    pub(crate) fn ended(&mut self, shard: ShardId, epoch: Epoch) -> bool {
        match self.slots.get_mut(usize::from(shard.0)) {
            Some(Slot { row, stage: stage @ Stage::Leaving { .. } }) if row.epoch == epoch => {
                *stage = Stage::Leaving { ended: true };
                true
            }
            _ => false,
        }
    }

    /// Keeps a leaving shard after all.
    pub(crate) fn keep(&mut self, shard: ShardId, epoch: Epoch) -> Option<Change> {
        let slot = self.slots.get_mut(usize::from(shard.0))?;
        if matches!(slot.stage, Stage::Leaving { .. }) && slot.row.epoch == epoch {
            slot.stage = Stage::Held;
            return Some(Change::Arrive(shard, epoch));
        }
        None
    }

    /// Tells whether a shard is held since an epoch, and not leaving.
    pub(crate) fn holds(&self, shard: ShardId, epoch: Epoch) -> bool {
        let slot = self.slots.get(usize::from(shard.0));
        slot.is_some_and(|slot| slot.stage == Stage::Held && slot.row.epoch == epoch)
    }

    /// Tells whether a shard is held or leaving since an epoch.
    pub(crate) fn has(&self, shard: ShardId, epoch: Epoch) -> bool {
        let slot = self.slots.get(usize::from(shard.0));
        slot.is_some_and(|slot| slot.stage != Stage::Away && slot.row.epoch == epoch)
    }

    /// Returns how many shards are held or leaving.
    pub(crate) fn count(&self) -> usize {
        self.slots.iter().filter(|slot| slot.stage != Stage::Away).count()
    }

    /// Returns how many shards are leaving.
    pub(crate) fn leaving(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.stage, Stage::Leaving { .. })).count()
    }

    /// Returns the shards as everybody on this node may see them.
    pub(crate) fn shards(&self) -> Arc<[Shard]> {
        let shard = |slot: &Slot| {
            let held = match slot.stage {
                Stage::Away => Held::No,
                Stage::Held => Held::Yes,
                Stage::Leaving { .. } => Held::Leaving,
            };
            Shard { owner: slot.row.owner, epoch: slot.row.epoch, held }
        };
        self.slots.iter().map(shard).collect()
    }
}

impl Slot {
    fn put_away(&mut self, shard: ShardId) -> Option<Change> {
        match std::mem::replace(&mut self.stage, Stage::Away) {
            // What has ended by itself needs no cancelling.
            Stage::Away | Stage::Leaving { ended: true } => None,
            Stage::Held | Stage::Leaving { ended: false } => Some(Change::Lose(shard)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const OWN: Incarnation = Incarnation(7);
    const SHARD: ShardId = ShardId(3);

    fn row(owner: u64, epoch: u64) -> ShardRow {
        ShardRow { owner: (owner > 0).then_some(Incarnation(owner)), epoch: Epoch(epoch) }
    }

    fn held(holdings: &Holdings) -> Held {
        holdings.shards()[usize::from(SHARD.0)].held
    }

    #[test]
    fn a_shard_comes_and_goes() {
        let mut holdings = Holdings::new(OWN);
        assert_eq!(holdings.see([(SHARD, row(7, 1))]), [], "not before the lease is held");
        holdings.enable();
        assert_eq!(holdings.see([(SHARD, row(7, 1))]), [Change::Arrive(SHARD, Epoch(1))]);
        assert_eq!(holdings.see([(SHARD, row(7, 1))]), []);
        assert_eq!(holdings.leave(SHARD), Some(Epoch(1)));
        assert_eq!((held(&holdings), holdings.leave(SHARD)), (Held::Leaving, None));
        assert!(holdings.ended(SHARD, Epoch(1)));
        assert_eq!(holdings.see([(SHARD, row(8, 2))]), [], "it has ended by itself");
        assert_eq!((held(&holdings), holdings.count()), (Held::No, 0));
        assert_eq!(holdings.see([(SHARD, row(7, 1))]), [], "a look that is late says nothing");
        assert_eq!(holdings.shards()[3].owner, Some(Incarnation(8)));
    }

    #[test]
    fn a_shard_whose_row_is_damaged_is_held_again_when_it_is_repaired() {
        let mut holdings = Holdings::new(OWN);
        holdings.enable();
        holdings.see([(SHARD, row(7, 1))]);
        assert_eq!((holdings.hide(SHARD), held(&holdings)), (Some(Change::Lose(SHARD)), Held::No));
        assert_eq!(holdings.hide(SHARD), None);
        assert_eq!(holdings.see([(SHARD, row(7, 1))]), [Change::Arrive(SHARD, Epoch(1))]);
    }

    #[test]
    fn what_is_taken_or_overdue_is_lost_at_once() {
        let mut holdings = Holdings::new(OWN);
        holdings.enable();
        holdings.see([(SHARD, row(7, 1))]);
        assert_eq!(holdings.see([(SHARD, row(9, 2))]), [Change::Lose(SHARD)]);
        assert_eq!(holdings.see([(SHARD, row(7, 3))]), [Change::Arrive(SHARD, Epoch(3))]);
        assert_eq!(
            holdings.see([(SHARD, row(7, 5))]),
            [Change::Lose(SHARD), Change::Arrive(SHARD, Epoch(5))]
        );
        holdings.leave(SHARD);
        assert_eq!(holdings.disable(), [Change::Lose(SHARD)]);
        assert!(!holdings.ended(SHARD, Epoch(5)) && holdings.keep(SHARD, Epoch(5)).is_none());
        assert_eq!(held(&holdings), Held::No);
    }

    proptest! {
        #[test]
        fn shards_are_held_only_by_their_owner_in_its_lease(
            steps in prop::collection::vec((0_u8..7, 0_u64..3, 0_u64..12), 1..80),
        ) {
            let mut holdings = Holdings::new(OWN);
            let (mut known, mut arrived) = (row(0, 0), false);
            for (step, owner, epoch) in steps {
                let changes = match step {
                    0..=2 => {
                        let owner = [0, 7, 9][usize::try_from(owner).unwrap()];
                        // An epoch has one owner.
                        let seen = if epoch == known.epoch.0 { known } else { row(owner, epoch) };
                        if seen.epoch >= known.epoch {
                            known = seen;
                        }
                        holdings.see([(SHARD, seen)])
                    }
                    3 => { holdings.enable(); vec![] }
                    4 => holdings.disable(),
                    5 => { holdings.leave(SHARD); vec![] }
                    _ => {
                        // Ended by itself: nobody has to hear of it when it goes.
                        if holdings.ended(SHARD, known.epoch) {
                            arrived = false;
                        }
                        vec![]
                    }
                };
                for change in changes {
                    match change {
                        Change::Arrive(_, epoch) => { prop_assert!(!arrived && epoch == known.epoch); arrived = true; }
                        Change::Lose(_) => { prop_assert!(arrived); arrived = false; }
                    }
                }
                let shown = holdings.shards()[usize::from(SHARD.0)];
                prop_assert_eq!((shown.owner, shown.epoch), (known.owner, known.epoch));
                if shown.held != Held::No {
                    prop_assert!(holdings.is_able() && known.owner == Some(OWN));
                }
                if shown.held == Held::Yes {
                    prop_assert!(arrived);
                }
                if arrived {
                    prop_assert_ne!(shown.held, Held::No);
                }
                let all: BTreeSet<_> = holdings.shards().iter().map(|shard| shard.held as u8).collect();
                prop_assert!(all.len() <= 2);
            }
        }
    }
}
