//! Proofs of inclusion and of consistency, made out of tiles and checked against roots.
//!
//! A hash of a proof is the root of the tree over a range of leaves; such a range falls into perfect trees, whose roots are in
//! tiles. [`Needs`] says which.

use std::{collections::BTreeSet, ops::Range};

use crate::{Coordinates, Hash, Tiles, node_hash};

/// What a proof is made of: the ranges of leaves whose roots it lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs(Vec<Range<u64>>);

impl Needs {
    /// Returns what the proof needs that the leaf at `index` is in the tree of `size` leaves; `None` if it is not.
    ///
    /// Source: RFC 6962 §2.1.1.
    #[must_use]
    pub fn inclusion(index: u64, size: u64) -> Option<Self> {
        if index >= size {
            return None;
        }
        let (mut tree, mut ranges) = (0..size, Vec::new());
        while tree.end - tree.start > 1 {
            let middle = split(&tree);
            if index < middle {
                ranges.push(middle..tree.end);
                tree.end = middle;
            } else {
                ranges.push(tree.start..middle);
                tree.start = middle;
            }
        }
        ranges.reverse();
        Some(Self(ranges))
    }

    /// Returns what the proof needs that the tree of `to` leaves begins with that of `from`; `None` unless `1 ≤ from ≤ to`.
    ///
    /// Source: RFC 6962 §2.1.2.
    #[must_use]
    pub fn consistency(from: u64, to: u64) -> Option<Self> {
        if from == 0 || from > to {
            return None;
        }
        let (mut tree, mut ranges) = (0..to, Vec::new());
        while from != tree.end {
            let middle = split(&tree);
            if from <= middle {
                ranges.push(middle..tree.end);
                tree.end = middle;
            } else {
                ranges.push(tree.start..middle);
                tree.start = middle;
            }
        }
        // The verifier has the root of the first tree already, if that is this one.
        if tree.start > 0 {
            ranges.push(tree);
        }
        ranges.reverse();
        Some(Self(ranges))
    }

    /// Returns what the root of the first `size` leaves needs.
    #[must_use]
    pub fn root(size: u64) -> Self {
        Self((size > 0).then_some(0..size).into_iter().collect())
    }

    /// Returns what a [`Frontier`](crate::Frontier) of `size` leaves needs.
    #[must_use]
    pub fn frontier(size: u64) -> Self {
        Self(perfect(&(0..size)).map(|(height, index)| index << height..(index + 1) << height).collect())
    }

    /// Returns the tiles that are to be read.
    #[must_use]
    pub fn tiles(&self) -> BTreeSet<Coordinates> {
        let perfect = self.0.iter().flat_map(perfect);
        perfect.map(|(height, index)| Tiles::around(height, index)).collect()
    }

    /// Returns the hashes of the proof; `None` if a tile is missing or too short.
    #[must_use]
    pub fn hashes(&self, tiles: &Tiles) -> Option<Vec<Hash>> {
        self.0.iter().map(|range| root_of(range, tiles)).collect()
    }
}

/// Returns where RFC 6962 splits a tree of more than one leaf.
fn split(tree: &Range<u64>) -> u64 {
    tree.start + (1 << (tree.end - tree.start - 1).ilog2())
}

/// Returns the perfect trees that a range falls into, from the left; the range begins where one of its size can. Each as its height
/// and its number among those of that height.
fn perfect(range: &Range<u64>) -> impl Iterator<Item = (u32, u64)> + use<> {
    let Range { mut start, end } = range.clone();
    std::iter::from_fn(move || {
        let height = (end - start).checked_ilog2()?;
        let index = start >> height;
        start += 1 << height;
        Some((height, index))
    })
}

fn root_of(range: &Range<u64>, tiles: &Tiles) -> Option<Hash> {
    let roots: Option<Vec<Hash>> = perfect(range).map(|(height, index)| tiles.node(height, index)).collect();
    roots?.into_iter().rev().reduce(|right, left| node_hash(&left, &right))
}

/// Tells whether `proof` shows that the tree of `to` leaves with the root `to_root` begins with the one of `from` leaves with the
/// root `from_root`. Two trees of one size are consistent if they are the same; nothing is shown about an empty one.
///
/// Source: RFC 9162 §2.1.4.2.
#[must_use]
pub fn is_consistent((from, from_root): (u64, &Hash), (to, to_root): (u64, &Hash), proof: &[Hash]) -> bool {
    if from == 0 || from >= to {
        return from > 0 && from == to && from_root == to_root && proof.is_empty();
    }
    let mut hashes = proof.iter();
    let (mut node, mut last) = (from - 1, to - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // A first tree that is perfect is its own first hash.
    let first = if from.is_power_of_two() { Some(from_root) } else { hashes.next() };
    let Some(first) = first else { return false };
    let (mut from_hash, mut to_hash) = (*first, *first);
    for hash in hashes {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from_hash = node_hash(hash, &from_hash);
            to_hash = node_hash(hash, &to_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            to_hash = node_hash(&to_hash, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && from_hash == *from_root && to_hash == *to_root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Edge, Tile, Tree, leaf_hash, root_of_path};

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
    }

    fn tiles(leaves: &[Hash]) -> Vec<Tile> {
        let (mut edge, mut tiles) = (Edge::default(), Vec::new());
        leaves.iter().for_each(|leaf| edge.push(*leaf, &mut tiles));
        tiles.extend(edge.tiles());
        tiles
    }

    fn root(leaves: &[Hash]) -> Hash {
        Tree::new(leaves.to_vec()).root()
    }

    /// Makes the proof out of no more than the tiles that it names.
    fn make(needs: &Needs, tiles: &[Tile]) -> Option<Vec<Hash>> {
        let needed = needs.tiles();
        needs.hashes(&tiles.iter().filter(|tile| needed.contains(&tile.at)).cloned().collect())
    }

    /// SUBPROOF of RFC 6962 §2.1.2, word for word.
    fn subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { Vec::new() } else { vec![root(leaves)] };
        }
        let k = leaves.len().next_power_of_two() / 2;
        let (mut proof, last) = if m <= k {
            (subproof(m, &leaves[..k], whole), root(&leaves[k..]))
        } else {
            (subproof(m - k, &leaves[k..], false), root(&leaves[..k]))
        };
        proof.push(last);
        proof
    }

    #[test]
    fn small_trees_give_the_proofs_of_the_definition() {
        let all = leaves(40);
        for size in 1..=40_u64 {
            let leaves = &all[..size as usize];
            let tiles = tiles(leaves);
            let tree = Tree::new(leaves.to_vec());
            assert_eq!(make(&Needs::root(size), &tiles), Some(vec![tree.root()]));
            for index in 0..size {
                let path = make(&Needs::inclusion(index, size).unwrap(), &tiles).unwrap();
                assert_eq!(path, tree.path(index as usize), "{index} in {size}");
            }
            for from in 1..=size {
                let proof = make(&Needs::consistency(from, size).unwrap(), &tiles).unwrap();
                assert_eq!(proof, subproof(from as usize, leaves, true), "{from} to {size}");
                let old = root(&all[..from as usize]);
                assert!(is_consistent((from, &old), (size, &tree.root()), &proof), "{from} to {size}");
            }
        }
        assert_eq!(
            (Needs::inclusion(3, 3), Needs::consistency(0, 3), Needs::consistency(4, 3)),
            (None, None, None)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn proofs_over_several_tiles_verify_and_others_do_not(
            size in 2_u64..1_500, index in any::<prop::sample::Index>(), from in any::<prop::sample::Index>(),
            flip in any::<prop::sample::Index>(),
        ) {
            let all = leaves(size);
            let (tiles, whole) = (tiles(&all), root(&all));
            let index = index.index(size as usize) as u64;
            let path = make(&Needs::inclusion(index, size).unwrap(), &tiles).unwrap();
            prop_assert_eq!(root_of_path(all[index as usize], index, size, &path), Some(whole));

            let from = from.index(size as usize - 1) as u64 + 1;
            let old = root(&all[..from as usize]);
            let proof = make(&Needs::consistency(from, size).unwrap(), &tiles).unwrap();
            prop_assert!(is_consistent((from, &old), (size, &whole), &proof));
            prop_assert!(!is_consistent((from, &whole), (size, &whole), &proof));
            prop_assert!(!is_consistent((from, &old), (size, &old), &proof));
            let (at, mut other) = (flip.index(proof.len()), proof.clone());
            other[at][0] ^= 1;
            prop_assert!(!is_consistent((from, &old), (size, &whole), &other));
            other.remove(at);
            prop_assert!(!is_consistent((from, &old), (size, &whole), &other));
            let longer = [proof.as_slice(), &[whole]].concat();
            prop_assert!(!is_consistent((from, &old), (size, &whole), &longer));
        }
    }
}
