//! Who should own which shard. Every node computes the same from the same rows; the store decides who does.

use aesp_proto::{Incarnation, ShardId};
use aesp_storage::ShardRow;

/// A node that takes shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) node: Incarnation,
    pub(crate) name: String,
}

/// A shard as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) shard: ShardId,
    pub(crate) row: ShardRow,
    /// Whether the owner is over for ever, or there is none.
    pub(crate) free: bool,
}

/// What this node should do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Take these: nobody living owns them, and this node should.
    pub(crate) take: Vec<ShardId>,
    /// Hand these over.
    pub(crate) hand_over: Vec<(ShardId, Option<Incarnation>)>,
}

/// How this node takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It takes its share.
    Member,
    /// It hands over what it has to whoever there is.
    Leaving,
    /// As [`Part::Leaving`]; what nobody can take is given up.
    GivingUp,
}

/// Returns what node `own` should do, where `members` are the nodes that take shards.
pub(crate) fn plan(own: Incarnation, part: Part, members: &[Member], shards: &[Placed]) -> Plan {
    let mut plan = Plan::default();
    for placed in shards {
        let wanted = owner(placed.shard, members);
        if placed.row.owner == Some(own) {
            match (wanted, part) {
                (Some(to), _) if to != own => plan.hand_over.push((placed.shard, Some(to))),
                (None, Part::GivingUp) => plan.hand_over.push((placed.shard, None)),
                _ => {}
            }
        } else if placed.free && wanted == Some(own) {
            plan.take.push(placed.shard);
        }
    }
    plan
}

/// Returns how many shards are not where they should be.
pub(crate) fn misplaced(members: &[Member], shards: &[Placed]) -> usize {
    let astray =
        |placed: &&Placed| owner(placed.shard, members).is_some_and(|to| placed.row.owner != Some(to));
    shards.iter().filter(astray).count()
}

/// Returns which of the members should own a shard: that with the highest score (rendezvous hashing), so that a member that
/// comes or goes moves its own share only. By name, so that a node that starts again gets the same shards.
///
/// Zones need no step of their own. The best of a zone's scores is the zone's score, and the highest of k even scores is that of
/// weighted rendezvous hashing with weight k: each zone gets what its serving nodes are worth, and a zone or data centre that is
/// lost moves its own shards only. A choice of the zone first, with weights that follow the nodes, would move shards of living
/// nodes whenever a node of their zone goes. As nothing but names counts, nodes that don't know zones agree.
///
/// Source: Thaler and Ravishankar, Using name-based mappings to increase hit rates (1998).
pub(crate) fn owner(shard: ShardId, members: &[Member]) -> Option<Incarnation> {
    members.iter().max_by_key(|member| (score(shard, &member.name), member.node)).map(|member| member.node)
}

/// FNV-1a of name and shard, finished as in SplitMix64: FNV alone leaves the last bytes poorly mixed.
fn score(shard: ShardId, name: &str) -> u64 {
    let bytes = name.bytes().chain(shard.0.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
#[path = "placement_zones.rs"]
mod zones;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aesp_proto::Epoch;
    use aesp_storage::SHARDS;
    use proptest::prelude::*;

    use super::*;

    fn members(nodes: impl IntoIterator<Item = u64>) -> Vec<Member> {
        nodes.into_iter().map(|n| Member { node: Incarnation(n), name: format!("node-{n}") }).collect()
    }

    fn placed(shard: u16, owner: Option<u64>, free: bool) -> Placed {
        let row = ShardRow { owner: owner.map(Incarnation), epoch: Epoch(1) };
        Placed { shard: ShardId(shard), row, free }
    }

    #[test]
    fn placement_never_changes() {
        let members = members(1..=3);
        let owners: Vec<_> =
            (0..16).map(|shard| owner(ShardId(shard), &members).map_or(0, |node| node.0)).collect();
        assert_eq!(owners, GOLDEN);
    }

    #[test]
    fn shares_are_about_equal_and_only_the_share_of_a_leaver_moves() {
        let (all, left) = (members(1..=5), members(1..=4));
        let mut shares = BTreeMap::<_, usize>::new();
        for shard in (0..SHARDS).map(ShardId) {
            let before = owner(shard, &all).unwrap();
            *shares.entry(before).or_default() += 1;
            let after = owner(shard, &left).unwrap();
            assert!(before == after || before == Incarnation(5), "{shard} moved for nothing");
        }
        assert!(shares.values().all(|share| (25..80).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_node_that_starts_again_gets_its_shards_back() {
        let before = members(1..=3);
        let mut after = before.clone();
        after[1].node = Incarnation(9);
        for shard in (0..SHARDS).map(ShardId) {
            let was = owner(shard, &before).unwrap();
            let now = if was == Incarnation(2) { Incarnation(9) } else { was };
            assert_eq!(owner(shard, &after), Some(now));
        }
    }

    #[test]
    fn a_leaver_gives_to_others_and_gives_up_only_when_it_is_told_to() {
        let shards: Vec<_> = (0..SHARDS).map(|shard| placed(shard, Some(1), false)).collect();
        let leaving = plan(Incarnation(1), Part::Leaving, &members(2..=3), &shards);
        assert_eq!(leaving.hand_over.len(), usize::from(SHARDS));
        assert!(leaving.hand_over.iter().all(|(_, to)| to.is_some_and(|to| to != Incarnation(1))));
        assert_eq!(plan(Incarnation(1), Part::Leaving, &[], &shards), Plan::default());
        let given_up = plan(Incarnation(1), Part::GivingUp, &[], &shards);
        assert!(given_up.hand_over.len() == usize::from(SHARDS) && given_up.hand_over[0].1.is_none());
    }

    proptest! {
        #[test]
        fn plans_meet(nodes in prop::collection::btree_set(1_u64..40, 1..6), owners in prop::collection::vec(0_u64..40, 256)) {
            let members = members(nodes.iter().copied());
            let shards: Vec<_> = owners.iter().zip(0_u16..).map(|(owner, shard)| {
                let owner = (*owner > 0).then_some(*owner);
                placed(shard, owner, !owner.is_some_and(|owner| nodes.contains(&owner)))
            }).collect();
            let mut acted = BTreeMap::new();
            for node in &nodes {
                let own = Incarnation(*node);
                let plan = plan(own, Part::Member, &members, &shards);
                for shard in plan.take {
                    prop_assert!(shards[usize::from(shard.0)].free);
                    prop_assert!(acted.insert(shard, own).is_none(), "two nodes take {}", shard);
                }
                for (shard, to) in plan.hand_over {
                    prop_assert_eq!(shards[usize::from(shard.0)].row.owner, Some(own));
                    prop_assert_ne!(to, Some(own));
                    prop_assert!(acted.insert(shard, to.unwrap()).is_none());
                }
            }
            prop_assert_eq!(acted.len(), misplaced(&members, &shards));
            for (shard, to) in acted {
                prop_assert_eq!(owner(shard, &members), Some(to));
            }
        }
    }

    const GOLDEN: [u64; 16] = [3, 1, 3, 2, 2, 3, 2, 2, 3, 1, 2, 2, 1, 3, 1, 3];
}
