use std::collections::BTreeSet;

use aesp_merkle::{
    Checkpoint, Coordinates, Hash, Tile, Tiles,
    proof::{Needs, is_consistent},
};
use aesp_storage::Transaction;

use crate::{Consistency, Error, LogKeys, grow::BUNDLE, rows::Tree};

/// A log as its last checkpoint says, whose signature was checked.
pub(crate) struct Sealed {
    pub(crate) tree: Tree,
    pub(crate) note: String,
    pub(crate) head: Checkpoint,
}

impl Sealed {
    /// Believes the checkpoint of the log with this origin.
    pub(crate) async fn open(
        tx: &Transaction,
        tree: Tree,
        origin: &str,
        note: String,
    ) -> Result<Self, Error> {
        let head = LogKeys::opened(tx, &note).await?;
        if head.origin != origin {
            return Err(Error::Damaged("the last checkpoint is of another log".into()));
        }
        Ok(Self { tree, note, head })
    }

    /// Returns the size that is meant.
    pub(crate) fn size(&self, asked: u64) -> Result<u64, Error> {
        let sealed = self.head.size;
        match asked {
            0 => Ok(sealed),
            asked if asked > sealed => Err(Error::BeyondEnd { sealed, asked }),
            asked => Ok(asked),
        }
    }

    pub(crate) fn note_of(self, size: u64) -> Option<String> {
        (size == self.head.size).then_some(self.note)
    }

    pub(crate) async fn tiles(&self, tx: &Transaction, needs: &[&Needs]) -> Result<Tiles, Error> {
        let places: BTreeSet<Coordinates> = needs.iter().flat_map(|needs| needs.tiles()).collect();
        let mut tiles = Vec::new();
        for at in places {
            tiles.push(self.tree.tile(tx, at, self.head.size).await?);
        }
        Ok(tiles.into_iter().collect())
    }

    /// Returns the first `width` hashes of a tile.
    pub(crate) async fn tile(&self, tx: &Transaction, at: Coordinates, width: usize) -> Result<Tile, Error> {
        if width > at.width(self.head.size) {
            let step = 1_u64.checked_shl(8 * u32::from(at.level)).unwrap_or(u64::MAX);
            let asked = at.index.saturating_mul(BUNDLE).saturating_add(width as u64).saturating_mul(step);
            return Err(Error::BeyondEnd { sealed: self.head.size, asked });
        }
        let mut tile = self.tree.tile(tx, at, self.head.size).await?;
        tile.hashes.truncate(width);
        Ok(tile)
    }

    /// Returns the root of the first `size` leaves, which the signed root must begin with.
    async fn root(&self, tx: &Transaction, size: u64) -> Result<Hash, Error> {
        let damaged = || {
            Error::Damaged(format!("the tiles do not lead to the root signed for size {}", self.head.size))
        };
        let (whole, since) =
            (Needs::root(size), Needs::consistency(size, self.head.size).ok_or_else(damaged)?);
        let tiles = self.tiles(tx, &[&whole, &since]).await?;
        let root = whole.hashes(&tiles).and_then(|hashes| hashes.first().copied()).ok_or_else(damaged)?;
        let proof = since.hashes(&tiles).ok_or_else(damaged)?;
        if is_consistent((size, &root), (self.head.size, &self.head.root), &proof) {
            Ok(root)
        } else {
            Err(damaged())
        }
    }

    /// Returns the root of the tree of `size` leaves, and the path to it from the leaf at `index`.
    pub(crate) async fn path(
        &self,
        tx: &Transaction,
        index: u64,
        size: u64,
    ) -> Result<(Hash, Vec<Hash>), Error> {
        let needs = Needs::inclusion(index, size);
        let needs = needs.ok_or(Error::BeyondEnd { sealed: size, asked: index.saturating_add(1) })?;
        let root = self.root(tx, size).await?;
        let tiles = self.tiles(tx, &[&needs]).await?;
        let path = needs.hashes(&tiles).ok_or_else(|| Error::Damaged("a tile of the path is cut".into()))?;
        Ok((root, path))
    }

    /// Proves that the tree of `to` leaves begins with that of `from`; for `to`, 0 stands for the newest.
    pub(crate) async fn consistency(
        self,
        tx: &Transaction,
        from: u64,
        to: u64,
    ) -> Result<Consistency, Error> {
        let to = self.size(to)?;
        let needs = Needs::consistency(from, to);
        let needs = needs.ok_or_else(|| {
            Error::Impossible(format!(
                "there is no proof from size {from} to size {to}: it goes from 1 or more upwards"
            ))
        })?;
        let (from_root, to_root) = (self.root(tx, from).await?, self.root(tx, to).await?);
        let tiles = self.tiles(tx, &[&needs]).await?;
        let proof =
            needs.hashes(&tiles).ok_or_else(|| Error::Damaged("a tile of the proof is cut".into()))?;
        if !is_consistent((from, &from_root), (to, &to_root), &proof) {
            return Err(Error::Damaged(format!("the tiles give no proof from size {from} to size {to}")));
        }
        let origin = self.head.origin.clone();
        Ok(Consistency {
            origin,
            from: (from, from_root),
            to: (to, to_root),
            proof,
            checkpoint: self.note_of(to),
        })
    }
}
