//! Merkle trees as transparency logs use them (RFC 6962), pure: no I/O.
//!
//! A tree over few leaves is a [`Tree`]. A log that grows keeps its right edge ([`Edge`]) and stores the rest as [`Tile`]s (C2SP
//! tlog-tiles); [`proof`] says which tiles a proof needs and makes it out of them. A [`Checkpoint`] is the signed head of such a
//! log (C2SP tlog-checkpoint), to which witnesses add [cosignatures](Cosigner) (C2SP tlog-cosignature, tlog-witness).

mod checkpoint;
mod cosignature;
mod edge;
mod frontier;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod hash;
mod note;
pub mod proof;
mod tile;
mod tree;
pub mod witness;

pub use checkpoint::Checkpoint;
pub use cosignature::{CosignatureError, Cosigned, Cosigner, with_cosignature};
pub use edge::Edge;
pub use frontier::Frontier;
pub use hash::{Hash, empty_root, hash_of, leaf_hash, node_hash, sha256};
pub use note::{Error as NoteError, Verifier};
pub use tile::{Coordinates, InvalidPath, Resource, TILE_WIDTH, Tile, Tiles};
pub use tree::{Tree, root_of_path};
