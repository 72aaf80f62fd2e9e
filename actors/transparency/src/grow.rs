//! What a step adds to a log. Pure.

use aesp_audit::Position;
use aesp_merkle::{Edge, Tile, leaf_hash};
use aesp_proto::{EventId, v1::AuditLeaf};
use bytes::Bytes;
use prost::Message;

/// Leaves of a bundle, and hashes of a tile.
pub(crate) const BUNDLE: u64 = aesp_merkle::TILE_WIDTH as u64;

/// What the step writes besides the state and its checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// The tiles that are full now, and the partial ones.
    pub(crate) tiles: Vec<Tile>,
    /// Bundles that begin, by their index.
    pub(crate) bundles: Vec<(u64, Position)>,
    /// Events with their leaves.
    pub(crate) leaves: Vec<(EventId, u64)>,
}

/// Appends the events to the edge.
pub(crate) fn grow(edge: &mut Edge, events: &[(Position, Bytes)]) -> Growth {
    let mut growth = Growth::default();
    for (position, leaf) in events {
        let index = edge.size();
        if index.is_multiple_of(BUNDLE) {
            growth.bundles.push((index / BUNDLE, *position));
        }
        // A leaf that is none is sealed as it is: the log says what is there. Nobody finds it by its id.
        let id =
            AuditLeaf::decode(leaf.clone()).ok().and_then(|leaf| EventId::from_slice(&leaf.event_id).ok());
        growth.leaves.extend(id.map(|id| (id, index)));
        edge.push(leaf_hash(leaf), &mut growth.tiles);
    }
    growth.tiles.extend(edge.tiles());
    growth
}
