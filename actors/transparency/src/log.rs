use aesp_audit::events;
use aesp_merkle::{Hash, Resource, leaf_hash, root_of_path};
use aesp_proto::{EventId, TenantId};
use aesp_storage::{Store, Transaction};
use bytes::Bytes;

use crate::{
    Error,
    grow::BUNDLE,
    rows::{self, State, Tree},
    sealed::Sealed,
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
    sealed(tx, tenant, log_epoch, state).await
}

pub(crate) async fn sealed(
    tx: &Transaction,
    tenant: TenantId,
    log_epoch: u32,
    state: State,
) -> Result<Sealed, Error> {
    let tree = Tree::of_events(tenant, log_epoch);
    Sealed::open(tx, tree, &rows::origin(&state.log_id), state.checkpoint).await
}

impl Sealed {
    /// Returns the leaves of a bundle up to `count`.
    async fn leaves(
        &self,
        tx: &Transaction,
        tenant: TenantId,
        bundle: u64,
        count: usize,
    ) -> Result<Vec<Bytes>, Error> {
        let first = rows::bundle(tx, tenant, self.tree.log_epoch, bundle).await?;
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
            (sealed(tx, tenant, log_epoch, state).await?, index)
        }
    };
    let size = sealed.size(size)?;
    let (root, path) = sealed.path(tx, index, size).await?;
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
    newest(tx, tenant).await?.consistency(tx, from, to).await
}

async fn read(tx: &Transaction, tenant: TenantId, resource: Resource) -> Result<Vec<u8>, Error> {
    let sealed = newest(tx, tenant).await?;
    let Resource { at, width, entries } = resource;
    let tile = sealed.tile(tx, at, width).await?;
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
