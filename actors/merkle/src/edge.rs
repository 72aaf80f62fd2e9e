use crate::{Coordinates, Hash, TILE_WIDTH, Tile, Tree, empty_root, tile::width};

/// The right edge of a log's tree: what is needed to append to it and to know its root. At most 255 hashes a level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// The hashes of the last tile of each level, as long as it is not full.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// Takes the edge of a tree of `size` leaves up from its partial tiles, those of [`Coordinates::edge`] in the same order.
    /// Returns `None` if there are others, or if they have other widths.
    #[must_use]
    pub fn of_tiles(size: u64, tiles: &[Tile]) -> Option<Self> {
        let mut edge = Self { size, levels: Vec::new() };
        let mut tiles = tiles.iter();
        for level in 0..crate::tile::levels(size) {
            let width = width(size, level);
            let hashes = if width == 0 { Vec::new() } else { tiles.next()?.hashes.clone() };
            if hashes.len() != width {
                return None;
            }
            edge.levels.push(hashes);
        }
        tiles.next().is_none().then_some(edge)
    }

    /// Returns how many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf, and puts the tiles that it fills into `full`, the lowest first.
    pub fn push(&mut self, leaf: Hash, full: &mut Vec<Tile>) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(TILE_WIDTH));
            }
            let hashes = &mut self.levels[level];
            hashes.push(hash);
            if hashes.len() < TILE_WIDTH {
                return;
            }
            let hashes = std::mem::replace(hashes, Vec::with_capacity(TILE_WIDTH));
            hash = Tree::new(hashes.clone()).root();
            let level = u8::try_from(level).expect("a tree of 2^64 leaves has 8 levels of tiles");
            let index = (self.size >> (8 * u32::from(level) + 8)) - 1;
            full.push(Tile { at: Coordinates { level, index }, hashes });
        }
    }

    /// Returns the partial tiles, the lowest first.
    pub fn tiles(&self) -> impl Iterator<Item = Tile> + '_ {
        let partial = self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty());
        partial.map(|(level, hashes)| {
            let level = u8::try_from(level).expect("a tree of 2^64 leaves has 8 levels of tiles");
            let index = self.size >> (8 * u32::from(level)) >> 8;
            Tile { at: Coordinates { level, index }, hashes: hashes.clone() }
        })
    }

    /// Returns the root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        // What is below the last whole node of a level is the last node of that level, smaller than the others: the tree over both
        // is split where RFC 6962 splits the leaves.
        let below = self.levels.iter().fold(None, |below, hashes| {
            let nodes: Vec<Hash> = hashes.iter().copied().chain(below).collect();
            (!nodes.is_empty()).then(|| Tree::new(nodes).root())
        });
        below.unwrap_or_else(empty_root)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::leaf_hash;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// However it is taken up from its tiles in between, the root is that of the whole tree at every size.
        #[test]
        fn a_log_that_grows_has_the_roots_of_its_trees(count in 0_usize..1_400, stops in prop::collection::btree_set(0_usize..1_400, 0..6)) {
            let leaves = leaves(count);
            let (mut edge, mut full) = (Edge::default(), Vec::new());
            for (number, leaf) in leaves.iter().enumerate() {
                if stops.contains(&number) {
                    prop_assert_eq!(edge.root(), Tree::new(leaves[..number].to_vec()).root());
                    let tiles: Vec<Tile> = edge.tiles().collect();
                    let places: Vec<Coordinates> = tiles.iter().map(|tile| tile.at).collect();
                    prop_assert_eq!(&places, &Coordinates::edge(number as u64).collect::<Vec<_>>());
                    edge = Edge::of_tiles(number as u64, &tiles).expect("its own tiles");
                    prop_assert!(Edge::of_tiles(number as u64 + 1, &tiles).is_none());
                }
                edge.push(*leaf, &mut full);
            }
            prop_assert_eq!(edge.root(), Tree::new(leaves.clone()).root());
            prop_assert_eq!(edge.size(), count as u64);
            // The tiles are the hashes of the perfect trees of 256^level leaves, in their order.
            let mut stored = BTreeMap::new();
            for tile in full.into_iter().chain(edge.tiles()) {
                prop_assert!(stored.insert(tile.at, tile.hashes).is_none(), "a tile comes twice");
            }
            for (at, hashes) in stored {
                let step = 1_usize << (8 * at.level);
                let first = at.index as usize * TILE_WIDTH * step;
                for (number, hash) in hashes.iter().enumerate() {
                    let part = leaves[first + number * step..first + (number + 1) * step].to_vec();
                    prop_assert_eq!(*hash, Tree::new(part).root());
                }
            }
        }
    }

    #[test]
    fn two_levels_of_tiles_fill_up() {
        let (mut edge, mut full) = (Edge::default(), Vec::new());
        let leaves = leaves(TILE_WIDTH * TILE_WIDTH + 1);
        leaves.iter().for_each(|leaf| edge.push(*leaf, &mut full));
        assert_eq!(full.len(), TILE_WIDTH + 1);
        assert_eq!(full[TILE_WIDTH].at, Coordinates { level: 1, index: 0 });
        let partial: Vec<_> =
            edge.tiles().map(|tile| (tile.at.level, tile.at.index, tile.hashes.len())).collect();
        assert_eq!(partial, [(0, 256, 1), (2, 0, 1)]);
        assert_eq!(edge.root(), Tree::new(leaves).root());
    }
}
