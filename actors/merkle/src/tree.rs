use crate::{Hash, empty_root, node_hash};

/// A tree with all its nodes: `levels[0]` are the leaf hashes, the last level is the root. A node without a sibling moves
/// up as it is, which gives the tree of RFC 6962 for every number of leaves.
#[derive(Clone, Debug)]
pub struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Builds the tree over these leaf hashes.
    #[must_use]
    pub fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node_hash(left, right),
                    rest => rest[0],
                })
                .collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// Returns the tree hash; of an empty tree, that of the empty string.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or_else(empty_root)
    }

    /// Returns the inclusion path of the leaf at `index`, from the leaf upwards.
    ///
    /// Source: RFC 6962 §2.1.1.
    #[must_use]
    pub fn path(&self, index: usize) -> Vec<Hash> {
        let siblings = self.levels.iter().enumerate().map(|(height, level)| level.get((index >> height) ^ 1));
        siblings.flatten().copied().collect()
    }
}

/// Returns the root that `path` leads to from the leaf hash at `index` of `count`, or `None` if the path can't belong to
/// that place.
///
/// Source: RFC 9162 §2.1.3.2.
#[must_use]
pub fn root_of_path(leaf: Hash, index: u64, count: u64, path: &[Hash]) -> Option<Hash> {
    if index >= count {
        return None;
    }
    let (mut node, mut last) = (index, count - 1);
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::{leaf_hash, sha256};

    /// The definition of RFC 6962 §2.1, word for word.
    fn defined_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [one] => *one,
            many => {
                let split = many.len().next_power_of_two() / 2;
                node_hash(&defined_root(&many[..split]), &defined_root(&many[split..]))
            }
        }
    }

    /// The definition of RFC 6962 §2.1.1, word for word.
    fn defined_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(split);
        let (mut path, sibling) = if index < split {
            (defined_path(index, left), defined_root(right))
        } else {
            (defined_path(index - split, right), defined_root(left))
        };
        path.push(sibling);
        path
    }

    /// The eight entries and roots of the tests of certificate-transparency (`merkle_tree_test.cc`).
    #[test]
    fn known_vectors_of_certificate_transparency() {
        let entries = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let hashes: Vec<Hash> =
            entries.iter().map(|e| leaf_hash(&HEXLOWER.decode(e.as_bytes()).unwrap())).collect();
        for (count, root) in (1..).zip(roots) {
            assert_eq!(HEXLOWER.encode(&Tree::new(hashes[..count].to_vec()).root()), root, "{count} entries");
        }
    }

    proptest! {
        #[test]
        fn roots_and_paths_are_those_of_the_definition(count in 1_usize..70, at in any::<prop::sample::Index>()) {
            let leaves: Vec<Hash> = (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect();
            let tree = Tree::new(leaves.clone());
            prop_assert_eq!(tree.root(), defined_root(&leaves));
            let index = at.index(count);
            let path = tree.path(index);
            prop_assert_eq!(&path, &defined_path(index, &leaves));
            prop_assert_eq!(root_of_path(leaves[index], index as u64, count as u64, &path), Some(tree.root()));
        }

        #[test]
        fn a_path_fits_one_place_only(count in 2_usize..70, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            let leaves: Vec<Hash> = (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect();
            let tree = Tree::new(leaves.clone());
            let (a, b) = (a.index(count), b.index(count));
            prop_assume!(a != b);
            let elsewhere = root_of_path(leaves[a], b as u64, count as u64, &tree.path(a));
            prop_assert_ne!(elsewhere, Some(tree.root()));
        }
    }
}
