//! What a log stores, all of it in the clear. Typed: `LOG_STATE`, one row a log epoch. Raw, as they are served and hashed:
//!
//! `tenant (16) | LOG_TILE (2) | log epoch (4) | level (1) | index (8)` → 1 to 256 hashes of 32 bytes;
//! `tenant (16) | LOG_BUNDLE (2) | log epoch (4) | index (8)` → the position (16) of the event that is leaf `256 · index`;
//! `tenant (16) | LOG_LEAF (2) | event id (16)` → `log epoch (4) | leaf (8)`.
//!
//! The checkpoints are in `aesp_audit::checkpoints`.

use aesp_audit::Position;
use aesp_merkle::{Coordinates, Edge, Hash, Tile};
use aesp_proto::{EventId, TenantId, Timestamp};
use aesp_storage::{Kind, Row, Scan, Transaction, row_key};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How far a log is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Names the log, at random: 32 hexadecimal digits.
    pub(crate) log_id: String,
    /// Leaves of the tree.
    pub(crate) size: u64,
    /// The position of the last of them, in hexadecimal digits.
    last: String,
    /// When the checkpoint was signed.
    pub(crate) sealed_at: Timestamp,
    /// Whether the step that sealed them stopped before the end of the log.
    pub(crate) behind: bool,
    /// The signed checkpoint of this size.
    pub(crate) checkpoint: String,
}

impl Row for State {
    const KIND: Kind = Kind::LOG_STATE;
    const SEALED: bool = false;
    /// The log epoch.
    type Key = u32;
}

impl State {
    pub(crate) fn new(
        log_id: String,
        (size, last): (u64, Position),
        sealed_at: Timestamp,
        behind: bool,
        checkpoint: String,
    ) -> Self {
        Self { log_id, size, last: HEXLOWER.encode(&last), sealed_at, behind, checkpoint }
    }

    /// Returns the position of the last leaf.
    pub(crate) fn last(&self) -> Result<Position, Error> {
        let bytes = HEXLOWER.decode(self.last.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| Error::Damaged("the state names no position".into()))
    }

    /// Reads the state of the newest log of the tenant, with its log epoch.
    pub(crate) async fn newest(tx: &Transaction, tenant: TenantId) -> Result<Option<(u32, Self)>, Error> {
        let newest = Scan { limit: 1, reverse: true, ..Scan::default() };
        Ok(tx.scan::<Self>(tenant, newest).await?.into_iter().next())
    }
}

/// Returns the first line of the log's checkpoints, which also names its key.
pub(crate) fn origin(log_id: &str) -> String {
    format!("aesp/{log_id}")
}

/// Where the tiles of a tree are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    tenant: TenantId,
    kind: Kind,
    pub(crate) log_epoch: u32,
}

impl Tree {
    /// Returns the tree over the events of a tenant.
    pub(crate) fn of_events(tenant: TenantId, log_epoch: u32) -> Self {
        Self { tenant, kind: Kind::LOG_TILE, log_epoch }
    }

    /// Returns the tree over the heads of all tenants' logs.
    pub(crate) fn of_heads(log_epoch: u32) -> Self {
        Self { tenant: TenantId::PLATFORM, kind: Kind::PLATFORM_LOG_TILE, log_epoch }
    }

    fn key(self, at: Coordinates) -> Vec<u8> {
        let place = [&self.log_epoch.to_be_bytes()[..], &[at.level], &at.index.to_be_bytes()].concat();
        row_key(self.tenant, self.kind, &place)
    }

    pub(crate) fn put(self, tx: &Transaction, tile: &Tile) -> Result<(), Error> {
        Ok(tx.set_raw(&self.key(tile.at), tile.hashes.as_flattened())?)
    }

    /// Reads the hashes that a tile has in a tree of `size` leaves; it may have grown since.
    pub(crate) async fn tile(self, tx: &Transaction, at: Coordinates, size: u64) -> Result<Tile, Error> {
        let bytes = tx.get_raw(&self.key(at)).await?.unwrap_or_default();
        let (hashes, rest): (&[Hash], _) = bytes.as_chunks();
        let hashes = hashes.get(..at.width(size)).filter(|_| rest.is_empty());
        let hashes = hashes.ok_or_else(|| {
            Error::Damaged(format!("tile {} of level {} is missing or cut", at.index, at.level))
        })?;
        Ok(Tile { at, hashes: hashes.to_vec() })
    }

    /// Takes up the right edge of the tree of `size` leaves, which must have this root, the one that was signed.
    pub(crate) async fn edge(self, tx: &Transaction, size: u64, root: &Hash) -> Result<Edge, Error> {
        let mut tiles = Vec::new();
        for at in Coordinates::edge(size) {
            tiles.push(self.tile(tx, at, size).await?);
        }
        Edge::of_tiles(size, &tiles).filter(|edge| edge.root() == *root).ok_or_else(|| {
            Error::Damaged(format!("the tiles do not lead to the root signed for size {size}"))
        })
    }
}

fn bundle_key(tenant: TenantId, log_epoch: u32, index: u64) -> Vec<u8> {
    row_key(tenant, Kind::LOG_BUNDLE, &[&log_epoch.to_be_bytes()[..], &index.to_be_bytes()].concat())
}

pub(crate) fn put_bundle(
    tx: &Transaction,
    tenant: TenantId,
    log_epoch: u32,
    index: u64,
    first: Position,
) -> Result<(), Error> {
    Ok(tx.set_raw(&bundle_key(tenant, log_epoch, index), &first)?)
}

/// Reads where the event is that is the first leaf of the bundle.
pub(crate) async fn bundle(
    tx: &Transaction,
    tenant: TenantId,
    log_epoch: u32,
    index: u64,
) -> Result<Position, Error> {
    let row = tx.get_raw(&bundle_key(tenant, log_epoch, index)).await?;
    let place = row.and_then(|row| row.as_ref().try_into().ok());
    place.ok_or_else(|| Error::Damaged(format!("the row of bundle {index} is missing or no position")))
}

fn leaf_key(tenant: TenantId, event: &[u8]) -> Vec<u8> {
    row_key(tenant, Kind::LOG_LEAF, event)
}

pub(crate) fn put_leaf(
    tx: &Transaction,
    tenant: TenantId,
    event: EventId,
    log_epoch: u32,
    index: u64,
) -> Result<(), Error> {
    let place = [&log_epoch.to_be_bytes()[..], &index.to_be_bytes()].concat();
    Ok(tx.set_raw(&leaf_key(tenant, event.as_bytes()), &place)?)
}

/// Reads the log epoch and the leaf of an event.
pub(crate) async fn leaf(
    tx: &Transaction,
    tenant: TenantId,
    event: EventId,
) -> Result<Option<(u32, u64)>, Error> {
    let Some(row) = tx.get_raw(&leaf_key(tenant, event.as_bytes())).await? else { return Ok(None) };
    let place = row.split_first_chunk::<4>().and_then(|(epoch, index)| {
        Some((u32::from_be_bytes(*epoch), u64::from_be_bytes(index.try_into().ok()?)))
    });
    place.map(Some).ok_or_else(|| Error::Damaged("the row of an event's leaf".into()))
}
