use std::collections::BTreeSet;

use aesp_audit::events;
use aesp_merkle::{
    Checkpoint, Coordinates, Hash, Resource, Tiles, leaf_hash,
    proof::{Needs, is_consistent},
    root_of_path,
};
use aesp_proto::{EventId, TenantId};
use aesp_storage::{Store, Transaction};
use bytes::Bytes;

use crate::{
    Error, LogKeys,
    grow::BUNDLE,
    rows::{self, State},
};

/// The most bytes of an entry in a bundle: their lengths have 16 bits.
const ENTRY_BYTES: usize = 65_535;

/// The sealed log of a tenant, to be read.
#[derive(Clone, Debug)]
pub struct Log {
    store: Store,
    tenant: TenantId,
}

/// Which event of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// By its id, in whichever of the tenant's logs.
    Event(EventId),
    /// By its leaf, counted from 0, in the newest.
    Leaf(u64),
}

/// Shows that an event is in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The origin of the log.
    pub origin: String,
    /// Which leaf it is, counted from 0.
    pub index: u64,
    /// The bytes of the leaf, an `AuditLeaf`.
    pub leaf: Bytes,
    /// Leaves of the tree.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// From the leaf upwards (RFC 6962 §2.1.1).
    pub path: Vec<Hash>,
    /// The signed checkpoint, if it is of this size.
    pub checkpoint: Option<String>,
}

/// Shows that a log only grew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// The origin of the log.
    pub origin: String,
    /// Leaves and root of the smaller tree.
    pub from: (u64, Hash),
    /// Leaves and root of the larger tree.
    pub to: (u64, Hash),
    /// RFC 6962 §2.1.2.
    pub proof: Vec<Hash>,
    /// The signed checkpoint, if it is of the larger size.
    pub checkpoint: Option<String>,
}

/// A log as its last checkpoint says, whose signature was checked.
pub(crate) struct Sealed {
    log_epoch: u32,
    note: String,
    head: Checkpoint,
}

impl Log {
    /// Reads the log of this tenant.
    #[must_use]
    pub fn new(store: Store, tenant: TenantId) -> Self {
        Self { store, tenant }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Returns the newest signed checkpoint.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Damaged`] or the store's.
    pub async fn checkpoint(&self) -> Result<String, Error> {
        let tenant = self.tenant;
        self.store.run(move |tx| Box::pin(async move { Ok(newest(tx, tenant).await?.note) })).await
    }

    /// Proves that an event is in the tree of `size` leaves; 0 stands for the newest.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::UnknownEvent`] or [`Error::BeyondEnd`]; [`Error::Damaged`] if the event or a tile is not what was
    /// sealed; the store's.
    pub async fn inclusion(&self, entry: Entry, size: u64) -> Result<Inclusion, Error> {
        let tenant = self.tenant;
        self.store.run(move |tx| Box::pin(inclusion(tx, tenant, entry, size))).await
    }

    /// Proves that the newest log's tree of `to` leaves begins with that of `from`; for `to`, 0 stands for the newest.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::BeyondEnd`], or [`Error::Impossible`] if `from` is 0 or above `to`; [`Error::Damaged`]; the store's.
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Consistency, Error> {
        let tenant = self.tenant;
        self.store.run(move |tx| Box::pin(consistency(tx, tenant, from, to))).await
    }

    /// Returns a tile of the newest log, or a bundle of its entries, as C2SP tlog-tiles serves them: hashes one after the other, or
    /// entries each behind its length (2 bytes, big-endian).
    ///
    /// # Errors
    /// [`Error::Empty`] or [`Error::BeyondEnd`]; [`Error::Impossible`] if an entry is too long for a bundle; [`Error::Damaged`]; the
    /// store's.
    pub async fn resource(&self, resource: Resource) -> Result<Vec<u8>, Error> {
        let tenant = self.tenant;
        self.store.run(move |tx| Box::pin(read(tx, tenant, resource))).await
    }
}

async fn newest(tx: &Transaction, tenant: TenantId) -> Result<Sealed, Error> {
    let (log_epoch, state) = State::newest(tx, tenant).await?.ok_or(Error::Empty)?;
    sealed(tx, log_epoch, state).await
}

pub(crate) async fn sealed(tx: &Transaction, log_epoch: u32, state: State) -> Result<Sealed, Error> {
    let note = state.checkpoint;
    let keys = LogKeys::all(tx).await?;
    let head = keys.iter().find_map(|key| Checkpoint::open(&note, key.public.0).ok());
    let head = head.filter(|head| head.origin == rows::origin(&state.log_id));
    let head = head.ok_or_else(|| Error::Damaged("the last checkpoint is not signed by a log key".into()))?;
    Ok(Sealed { log_epoch, note, head })
}

impl Sealed {
    /// Returns the size that is meant.
    fn size(&self, asked: u64) -> Result<u64, Error> {
        let sealed = self.head.size;
        match asked {
            0 => Ok(sealed),
            asked if asked > sealed => Err(Error::BeyondEnd { sealed, asked }),
            asked => Ok(asked),
        }
    }

    fn note_of(self, size: u64) -> Option<String> {
        (size == self.head.size).then_some(self.note)
    }

    pub(crate) async fn tiles(
        &self,
        tx: &Transaction,
        tenant: TenantId,
        needs: &[&Needs],
    ) -> Result<Tiles, Error> {
        let places: BTreeSet<Coordinates> = needs.iter().flat_map(|needs| needs.tiles()).collect();
        let mut tiles = Vec::new();
        for at in places {
            tiles.push(rows::tile(tx, tenant, self.log_epoch, at, self.head.size).await?);
        }
        Ok(tiles.into_iter().collect())
    }

    /// Returns the root of the first `size` leaves, which the signed root must begin with.
    async fn root(&self, tx: &Transaction, tenant: TenantId, size: u64) -> Result<Hash, Error> {
        let damaged = || {
            Error::Damaged(format!("the tiles do not lead to the root signed for size {}", self.head.size))
        };
        let (whole, since) =
            (Needs::root(size), Needs::consistency(size, self.head.size).ok_or_else(damaged)?);
        let tiles = self.tiles(tx, tenant, &[&whole, &since]).await?;
        let root = whole.hashes(&tiles).and_then(|hashes| hashes.first().copied()).ok_or_else(damaged)?;
        let proof = since.hashes(&tiles).ok_or_else(damaged)?;
        if is_consistent((size, &root), (self.head.size, &self.head.root), &proof) {
            Ok(root)
        } else {
            Err(damaged())
        }
    }

    /// Returns the leaves of a bundle up to `count`.
    async fn leaves(
        &self,
        tx: &Transaction,
        tenant: TenantId,
        bundle: u64,
        count: usize,
    ) -> Result<Vec<Bytes>, Error> {
        let first = rows::bundle(tx, tenant, self.log_epoch, bundle).await?;
        let found = events::from(tx, tenant, first, count).await?;
        if found.len() < count {
            let leaf = bundle * BUNDLE + found.len() as u64;
            return Err(Error::Damaged(format!(
                "the event of leaf {leaf}, or one before it in bundle {bundle}, is missing"
            )));
        }
        Ok(found.into_iter().map(|(_, leaf)| leaf).collect())
    }
}

async fn inclusion(tx: &Transaction, tenant: TenantId, entry: Entry, size: u64) -> Result<Inclusion, Error> {
    let (sealed, index) = match entry {
        Entry::Leaf(index) => (newest(tx, tenant).await?, index),
        Entry::Event(id) => {
            let (log_epoch, index) = rows::leaf(tx, tenant, id).await?.ok_or(Error::UnknownEvent)?;
            let state = tx.get::<State>(tenant, &log_epoch).await?;
            let state =
                state.ok_or_else(|| Error::Damaged("the state of the event's log is missing".into()))?;
            (sealed(tx, log_epoch, state).await?, index)
        }
    };
    let size = sealed.size(size)?;
    let needs = Needs::inclusion(index, size);
    let needs = needs.ok_or(Error::BeyondEnd { sealed: size, asked: index.saturating_add(1) })?;
    let root = sealed.root(tx, tenant, size).await?;
    let tiles = sealed.tiles(tx, tenant, &[&needs]).await?;
    let path = needs.hashes(&tiles).ok_or_else(|| Error::Damaged("a tile of the path is cut".into()))?;
    let count = usize::try_from(index % BUNDLE).expect("below 256") + 1;
    let leaf = sealed
        .leaves(tx, tenant, index / BUNDLE, count)
        .await?
        .pop()
        .expect("there are as many as asked for");
    if root_of_path(leaf_hash(&leaf), index, size, &path) != Some(root) {
        return Err(Error::Damaged(format!(
            "the event of leaf {index} is not the one that was sealed, or its path is not"
        )));
    }
    let origin = sealed.head.origin.clone();
    Ok(Inclusion { origin, index, leaf, size, root, path, checkpoint: sealed.note_of(size) })
}

async fn consistency(tx: &Transaction, tenant: TenantId, from: u64, to: u64) -> Result<Consistency, Error> {
    let sealed = newest(tx, tenant).await?;
    let to = sealed.size(to)?;
    let needs = Needs::consistency(from, to);
    let needs = needs.ok_or_else(|| {
        Error::Impossible(format!(
            "there is no proof from size {from} to size {to}: it goes from 1 or more upwards"
        ))
    })?;
    let (from_root, to_root) = (sealed.root(tx, tenant, from).await?, sealed.root(tx, tenant, to).await?);
    let tiles = sealed.tiles(tx, tenant, &[&needs]).await?;
    let proof = needs.hashes(&tiles).ok_or_else(|| Error::Damaged("a tile of the proof is cut".into()))?;
    if !is_consistent((from, &from_root), (to, &to_root), &proof) {
        return Err(Error::Damaged(format!("the tiles give no proof from size {from} to size {to}")));
    }
    let origin = sealed.head.origin.clone();
    Ok(Consistency {
        origin,
        from: (from, from_root),
        to: (to, to_root),
        proof,
        checkpoint: sealed.note_of(to),
    })
}

async fn read(tx: &Transaction, tenant: TenantId, resource: Resource) -> Result<Vec<u8>, Error> {
    let sealed = newest(tx, tenant).await?;
    let Resource { at, width, entries } = resource;
    let has = at.width(sealed.head.size);
    if width > has {
        let step = 1_u64.checked_shl(8 * u32::from(at.level)).unwrap_or(u64::MAX);
        let asked = at.index.saturating_mul(BUNDLE).saturating_add(width as u64).saturating_mul(step);
        return Err(Error::BeyondEnd { sealed: sealed.head.size, asked });
    }
    let mut tile = rows::tile(tx, tenant, sealed.log_epoch, at, sealed.head.size).await?;
    tile.hashes.truncate(width);
    if !entries {
        return Ok(tile.hashes.as_flattened().to_vec());
    }
    let mut out = Vec::new();
    let leaves = sealed.leaves(tx, tenant, at.index, width).await?;
    for ((index, leaf), hash) in (at.index * BUNDLE..).zip(&leaves).zip(&tile.hashes) {
        if leaf_hash(leaf) != *hash {
            return Err(Error::Damaged(format!("the event of leaf {index} is not the one that was sealed")));
        }
        let length = u16::try_from(leaf.len()).map_err(|_| {
            Error::Impossible(format!(
                "the event of leaf {index} has more than {ENTRY_BYTES} bytes: no bundle takes it"
            ))
        })?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(leaf);
    }
    Ok(out)
}
