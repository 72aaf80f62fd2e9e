use crate::{Hash, empty_root, node_hash};

/// The left part of a log's tree in as few hashes as can be: the roots of the perfect trees that it falls into, the largest first. More
/// leaves may be appended; what is before them need not be known.
///
/// Source: the *compact range* of transparency-dev/merkle, which begins at leaf 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// Takes a log of `size` leaves up from the hashes of [`Needs::frontier`](crate::proof::Needs::frontier). Returns `None` if there are
    /// not as many as it must have.
    #[must_use]
    pub fn new(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        (hashes.len() == size.count_ones() as usize).then_some(Self { size, hashes })
    }

    /// Returns how many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each 1 at the end of the size stands for a tree as large as the one that grew.
        for left in self.hashes.drain(self.hashes.len() - self.size.trailing_ones() as usize..).rev() {
            hash = node_hash(&left, &hash);
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// Returns the root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let root = self.hashes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        root.unwrap_or_else(empty_root)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Edge, Tile, Tree, leaf_hash, proof::Needs};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Taken up anywhere from the log's tiles, it has the root of the whole tree at every later size.
        #[test]
        fn a_log_that_is_taken_up_goes_on_with_the_same_roots(count in 1_u64..700, from in 0_u64..700) {
            let leaves: Vec<Hash> = (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect();
            let from = from.min(count);
            let (mut edge, mut tiles): (Edge, Vec<Tile>) = (Edge::default(), Vec::new());
            leaves.iter().for_each(|leaf| edge.push(*leaf, &mut tiles));
            tiles.extend(edge.tiles());
            let hashes = Needs::frontier(from).hashes(&tiles.into_iter().collect()).expect("its tiles are there");
            prop_assert!(Frontier::new(from, [hashes.clone(), vec![[0; 32]]].concat()).is_none());
            let mut frontier = Frontier::new(from, hashes).expect("as many as it must have");
            for size in from..count {
                prop_assert_eq!(frontier.root(), Tree::new(leaves[..size as usize].to_vec()).root());
                frontier.push(leaves[size as usize]);
            }
            prop_assert_eq!((frontier.size(), frontier.root()), (count, edge.root()));
        }
    }
}
