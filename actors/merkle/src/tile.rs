//! Tiles: 256 hashes of one level, eight levels of the tree apart.
//!
//! Source: C2SP tlog-tiles.

use std::{collections::BTreeMap, fmt};

use crate::{Hash, Tree};

/// Hashes of a full tile.
pub const TILE_WIDTH: usize = 256;
/// Levels of the tree between two levels of tiles.
const TILE_HEIGHT: u32 = 8;
/// The level that is written for bundles of entries.
const ENTRIES: &str = "entries";

/// Where a tile is: its hashes are those of the perfect trees over `256^level` leaves each, beginning with the one numbered
/// `256 · index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coordinates {
    /// From 0, at the leaves.
    pub level: u8,
    /// From 0, within the level.
    pub index: u64,
}

/// A tile; without all of its 256 hashes it is a partial one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Where it is.
    pub at: Coordinates,
    /// 1 to 256.
    pub hashes: Vec<Hash>,
}

/// A path is none of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no path of a tile: tile/<level>/<index>[.p/<width>], the index in groups of three digits, all but the last after an x"
)]
pub struct InvalidPath;

/// Returns how many levels of tiles a tree of `size` leaves has.
pub(crate) fn levels(size: u64) -> u8 {
    u8::try_from((u64::BITS - size.leading_zeros()).div_ceil(TILE_HEIGHT)).expect("at most 8")
}

/// Returns how many hashes the last tile of the level has that is not full, in a tree of `size` leaves.
pub(crate) fn width(size: u64, level: u8) -> usize {
    usize::try_from((size >> (TILE_HEIGHT * u32::from(level))) % TILE_WIDTH as u64).expect("below 256")
}

impl Coordinates {
    /// Returns the partial tiles of a tree of `size` leaves, the lowest first.
    pub fn edge(size: u64) -> impl Iterator<Item = Self> {
        let partial = (0..levels(size)).filter(move |level| width(size, *level) > 0);
        partial
            .map(move |level| Self { level, index: size >> (TILE_HEIGHT * u32::from(level)) >> TILE_HEIGHT })
    }

    /// Returns how many hashes the tile has in a tree of `size` leaves: 0 to 256.
    #[must_use]
    pub fn width(self, size: u64) -> usize {
        let hashes = size.checked_shr(TILE_HEIGHT * u32::from(self.level)).unwrap_or(0);
        let before = self.index.saturating_mul(TILE_WIDTH as u64);
        usize::try_from(hashes.saturating_sub(before)).map_or(TILE_WIDTH, |left| left.min(TILE_WIDTH))
    }

    /// Returns the path of the tile with so many hashes, after the log's own prefix.
    #[must_use]
    pub fn path(self, width: usize) -> String {
        format!("tile/{}/{}", self.level, place(self.index, width))
    }

    /// Reads the path of a tile, as [`path`](Self::path) writes it, or of a bundle of entries.
    ///
    /// # Errors
    /// [`InvalidPath`].
    pub fn parse(path: &str) -> Result<Resource, InvalidPath> {
        let (level, place) =
            path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(InvalidPath)?;
        let (index, width) = match place.split_once(".p/") {
            Some((index, width)) => {
                (index, number(width).filter(|width| (1..256).contains(width)).ok_or(InvalidPath)?)
            }
            None => (place, TILE_WIDTH as u64),
        };
        let width = usize::try_from(width).map_err(|_| InvalidPath)?;
        let mut groups = index.split('/').peekable();
        let mut value: u64 = 0;
        while let Some(group) = groups.next() {
            let digits =
                if groups.peek().is_some() { group.strip_prefix('x').ok_or(InvalidPath)? } else { group };
            if digits.len() != 3 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                return Err(InvalidPath);
            }
            let digits: u64 = digits.parse().map_err(|_| InvalidPath)?;
            value =
                value.checked_mul(1_000).and_then(|value| value.checked_add(digits)).ok_or(InvalidPath)?;
        }
        let entries = level == ENTRIES;
        let level = if entries { 0 } else { number(level).filter(|level| *level < 64).ok_or(InvalidPath)? };
        let at = Self { level: u8::try_from(level).map_err(|_| InvalidPath)?, index: value };
        let resource = Resource { at, width, entries };
        // One path for each tile, so that caches keep it once.
        if resource.to_string() == path { Ok(resource) } else { Err(InvalidPath) }
    }
}

/// What a path of a log names: a tile, or the bundle of entries below one of level 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The tile.
    pub at: Coordinates,
    /// How many of its hashes or entries, 1 to 256.
    pub width: usize,
    /// Whether the entries are meant and not their hashes.
    pub entries: bool,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries {
            write!(f, "tile/{ENTRIES}/{}", place(self.at.index, self.width))
        } else {
            f.write_str(&self.at.path(self.width))
        }
    }
}

/// Reads a number without leading zeros.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn place(index: u64, width: usize) -> String {
    let mut groups = vec![format!("{:03}", index % 1_000)];
    let mut rest = index / 1_000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1_000));
        rest /= 1_000;
    }
    groups.reverse();
    let index = groups.join("/");
    if width == TILE_WIDTH { index } else { format!("{index}.p/{width}") }
}

/// Some tiles of one tree.
#[derive(Clone, Debug, Default)]
pub struct Tiles(BTreeMap<Coordinates, Vec<Hash>>);

impl FromIterator<Tile> for Tiles {
    fn from_iter<I: IntoIterator<Item = Tile>>(tiles: I) -> Self {
        Self(tiles.into_iter().map(|tile| (tile.at, tile.hashes)).collect())
    }
}

impl Tiles {
    /// Returns the tile that holds the root of the perfect tree numbered `index` among those over `2^height` leaves, or the hashes
    /// below it.
    pub(crate) fn around(height: u32, index: u64) -> Coordinates {
        let level = u8::try_from(height / TILE_HEIGHT).expect("below 8");
        Coordinates { level, index: index << (height % TILE_HEIGHT) >> TILE_HEIGHT }
    }

    /// Returns the root of that tree; `None` if its tile is not here, or too short.
    pub(crate) fn node(&self, height: u32, index: u64) -> Option<Hash> {
        let hashes = self.0.get(&Self::around(height, index))?;
        let count = 1_usize << (height % TILE_HEIGHT);
        let first = usize::try_from((index << (height % TILE_HEIGHT)) % TILE_WIDTH as u64).ok()?;
        Some(Tree::new(hashes.get(first..first + count)?.to_vec()).root())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |level, index| Coordinates { level, index };
        assert_eq!(tile(0, 0).path(256), "tile/0/000");
        // The example of C2SP tlog-tiles.
        assert_eq!(tile(3, 1_234_067).path(256), "tile/3/x001/x234/067");
        assert_eq!(tile(0, 273).path(112), "tile/0/273.p/112");
        for (level, index, width) in [(0, 0, 256), (3, 1_234_067, 1), (7, u64::MAX >> 8, 255), (63, 999, 256)]
        {
            let at = tile(level, index);
            assert_eq!(Coordinates::parse(&at.path(width)), Ok(Resource { at, width, entries: false }));
            let entries = Resource { at: tile(0, index), width, entries: true };
            assert_eq!(Coordinates::parse(&entries.to_string()), Ok(entries));
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/x000/000",
            "tile/0/001/234",
            "tile/0/x001/x234",
            "tile/0/x01/234",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000/",
            "tile/a/000",
            "/tile/0/000",
            "tile/0/+01",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/Entries/000",
            "tile/0/000.p/1.p/1",
        ] {
            assert_eq!(Coordinates::parse(path), Err(InvalidPath), "{path}");
        }
    }

    #[test]
    fn a_tile_has_the_hashes_that_the_tree_has() {
        let at = |level, index| Coordinates { level, index };
        assert_eq!(at(0, 0).width(0), 0);
        assert_eq!(at(0, 0).width(255), 255);
        assert_eq!(at(0, 1).width(70_000), 256);
        assert_eq!(at(0, 273).width(70_000), 112);
        assert_eq!(at(1, 1).width(70_000), 17);
        assert_eq!(at(2, 0).width(70_000), 1);
        assert_eq!(at(8, 0).width(u64::MAX), 0);
        assert_eq!(at(0, u64::MAX).width(u64::MAX), 0);
    }
}
