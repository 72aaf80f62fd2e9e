//! What is lost together moves together, and nothing else does.

use std::collections::{BTreeMap, BTreeSet};

use aesp_storage::SHARDS;
use proptest::prelude::*;

use super::*;

/// Members by the zone that they are in.
type Zones = Vec<Vec<Member>>;

/// Makes zones of so many nodes each.
fn zones(sizes: &[usize]) -> Zones {
    let member = |zone: usize, node: usize| Member {
        node: Incarnation((zone * 100 + node) as u64 + 1),
        name: format!("dc{zone}-node-{node}"),
    };
    sizes.iter().enumerate().map(|(zone, size)| (0..*size).map(|node| member(zone, node)).collect()).collect()
}

fn owners(members: &[Member]) -> Vec<Incarnation> {
    (0..SHARDS).map(|shard| owner(ShardId(shard), members).unwrap()).collect()
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..6, 2..6)
}

proptest! {
    #[test]
    fn a_lost_zone_moves_its_own_shards_only(sizes in sizes(), which in any::<prop::sample::Index>()) {
        let zones = zones(&sizes);
        let lost = which.index(zones.len());
        let gone: BTreeSet<Incarnation> = zones[lost].iter().map(|member| member.node).collect();
        let before = owners(&zones.concat());
        let left: Zones = zones.iter().enumerate().filter(|(zone, _)| *zone != lost).map(|(_, m)| m.clone()).collect();
        let after = owners(&left.concat());
        let mut heirs = BTreeMap::<usize, usize>::new();
        for (was, is) in before.into_iter().zip(after) {
            if gone.contains(&was) {
                let heir = left.iter().position(|zone| zone.iter().any(|member| member.node == is)).unwrap();
                *heirs.entry(heir).or_default() += 1;
            } else {
                prop_assert_eq!(was, is, "a shard of a living zone moved");
            }
        }
        // The others share what was lost by their nodes: a zone that is to expect enough of it gets something.
        let (moved, nodes) = (heirs.values().sum::<usize>(), left.iter().map(Vec::len).sum::<usize>());
        for (zone, members) in left.iter().enumerate() {
            prop_assert!(heirs.contains_key(&zone) || moved * members.len() < 20 * nodes, "{heirs:?}");
        }
    }

    #[test]
    fn a_lost_node_moves_its_own_shards_only(sizes in sizes(), which in any::<prop::sample::Index>()) {
        let all = zones(&sizes).concat();
        let lost = all[which.index(all.len())].node;
        let left: Vec<Member> = all.iter().filter(|member| member.node != lost).cloned().collect();
        for (was, is) in owners(&all).into_iter().zip(owners(&left)) {
            prop_assert!(was == is || was == lost, "a shard of a living node moved");
        }
    }

    #[test]
    fn a_zone_has_what_its_nodes_are_worth(sizes in sizes()) {
        let zones = zones(&sizes);
        let all = zones.concat();
        let owners = owners(&all);
        for zone in &zones {
            let own = owners.iter().filter(|owner| zone.iter().any(|member| member.node == **owner)).count();
            let share = zone.len() as f64 / all.len() as f64;
            let (mean, deviation) = (256.0 * share, (256.0 * share * (1.0 - share)).sqrt());
            prop_assert!((own as f64 - mean).abs() <= 5.0 * deviation, "{} of {} expected", own, mean);
        }
    }

    #[test]
    fn the_order_of_the_members_does_not_matter(sizes in sizes(), seed in any::<u64>()) {
        let all = zones(&sizes).concat();
        let mut shuffled = all.clone();
        shuffled.sort_by_key(|member| score(ShardId(7), &format!("{seed}{}", member.name)));
        prop_assert_eq!(owners(&all), owners(&shuffled));
    }
}
