use std::{sync::Arc, time::Duration};

use aesp_merkle::{Checkpoint, Hash, Resource, leaf_hash, root_of_path};
use aesp_proto::{Clock, TenantId, Timestamp};
use aesp_storage::{Store, Transaction};

use super::{
    cosigned::{Cosigned, size_of},
    rows::{self, State},
};
use crate::{
    Consistency, Error, LogKeys,
    grow::BUNDLE,
    rows::{State as LogState, Tree},
    sealed::Sealed,
};

/// How long a checkpoint that too few witnesses cosigned is held back for the one before it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The platform log, to be read.
#[derive(Clone)]
pub struct PlatformLog {
    store: Store,
    clock: Arc<dyn Clock>,
}

/// How far the platform log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its newest head.
    pub head: Checkpoint,
    /// The newest head, signed, with the cosignatures that there are.
    pub note: String,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// The newest checkpoint that as many witnesses cosigned as are asked for.
    pub quorate: Option<String>,
    /// Since when the log has been longer than that one, while no newer one of these came.
    pub quorate_since: Timestamp,
    /// Grows by one with each leaf of a tenant's log, and with each event of the platform's own log.
    pub weight: u64,
}

/// Shows that the head of a log is in the platform log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadProof {
    /// The leaf: the three lines of the head.
    pub leaf: String,
    /// Which leaf it is, counted from 0.
    pub index: u64,
    /// The origin of the platform log.
    pub origin: String,
    /// Leaves of its tree.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// From the leaf upwards (RFC 6962 §2.1.1).
    pub path: Vec<Hash>,
    /// The signed checkpoint of this size, with the cosignatures that there are.
    pub checkpoint: String,
}

/// The newest platform log, or the one of a log epoch.
struct Read {
    log_epoch: u32,
    state: State,
    cosigned: Cosigned,
    sealed: Sealed,
}

impl Read {
    async fn newest(tx: &Transaction) -> Result<Self, Error> {
        let (log_epoch, state) = State::newest(tx).await?.ok_or(Error::Empty)?;
        Self::of(tx, log_epoch, state).await
    }

    async fn at(tx: &Transaction, log_epoch: u32) -> Result<Self, Error> {
        let state = tx.get::<State>(TenantId::PLATFORM, &log_epoch).await?.ok_or(Error::Empty)?;
        Self::of(tx, log_epoch, state).await
    }

    async fn of(tx: &Transaction, log_epoch: u32, state: State) -> Result<Self, Error> {
        if state.size == 0 {
            return Err(Error::Empty);
        }
        let (tree, origin) = (Tree::of_heads(log_epoch), rows::origin(&state.log_id));
        let sealed = Sealed::open(tx, tree, &origin, state.checkpoint.clone()).await?;
        Ok(Self { log_epoch, cosigned: Cosigned::of(tx, log_epoch).await?, state, sealed })
    }

    /// Returns the newest checkpoint, with the cosignatures that there are.
    fn newest_note(&self) -> &str {
        let size = self.state.size;
        let mut kept = self.cosigned.quorate.iter().chain(&self.cosigned.recent);
        let same = kept.find(|note| size_of(Some(note)) == size);
        same.unwrap_or(&self.state.checkpoint)
    }

    /// Returns the checkpoint that is shown: the newest, or for a moment the one before it that as many witnesses cosigned as are asked
    /// for.
    fn shown(&self, now: Timestamp) -> &str {
        match &self.cosigned.quorate {
            Some(note) if size_of(Some(note)) == self.state.size => note,
            Some(note) if now.since(self.quorate_since()) < PATIENCE => note,
            _ => self.newest_note(),
        }
    }

    /// Returns since when the log has been longer than the newest checkpoint that as many witnesses cosigned as are asked for, while no
    /// newer one of these came. (When the newest checkpoint was signed does not tell: in a log that grows each second it is always new.)
    fn quorate_since(&self) -> Timestamp {
        let is_old = size_of(self.cosigned.quorate.as_ref()) == self.state.quorate;
        if is_old { self.state.quorate_since } else { self.state.signed_at }
    }
}

impl PlatformLog {
    /// Reads the platform log of this store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Returns the checkpoint that is published, with the cosignatures that there are.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Damaged`] or the store's.
    pub async fn checkpoint(&self) -> Result<String, Error> {
        let now = self.clock.now();
        self.store
            .run(move |tx| Box::pin(async move { Ok(Read::newest(tx).await?.shown(now).to_owned()) }))
            .await
    }

    /// Tells how far it is.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Damaged`] or the store's.
    pub async fn status(&self) -> Result<Status, Error> {
        self.store.run(|tx| Box::pin(status(tx))).await
    }

    /// Proves that a head of the tenant's newest log is in the platform log: that of exactly `size` leaves, or for 0 the newest that is.
    /// The proof leads to the checkpoint that is published, or, for a newer leaf, to the newest.
    ///
    /// # Errors
    /// [`Error::Empty`] if the tenant has no log or none of its heads is in yet, [`Error::UnknownHead`] if that one is not;
    /// [`Error::Damaged`]; the store's.
    pub async fn head_proof(&self, tenant: TenantId, size: u64) -> Result<HeadProof, Error> {
        let now = self.clock.now();
        self.store.run(move |tx| Box::pin(head_proof(tx, tenant, size, now))).await
    }

    /// Proves that the platform log's tree of `to` leaves begins with that of `from`; for `to`, 0 stands for the newest.
    ///
    /// # Errors
    /// As [`Log::consistency`](crate::Log::consistency).
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Consistency, Error> {
        self.store
            .run(move |tx| {
                Box::pin(async move { Read::newest(tx).await?.sealed.consistency(tx, from, to).await })
            })
            .await
    }

    /// As [`consistency`](Self::consistency), in the platform log with this origin: a store that was restored has had several. Empty is
    /// the newest.
    ///
    /// # Errors
    /// As there, and [`Error::UnknownLog`].
    pub async fn consistency_of(&self, origin: &str, from: u64, to: u64) -> Result<Consistency, Error> {
        if origin.is_empty() {
            return self.consistency(from, to).await;
        }
        let origin = origin.to_owned();
        self.store
            .run(move |tx| {
                let origin = origin.clone();
                Box::pin(async move {
                    let all = State::all(tx).await?;
                    let found = all.into_iter().find(|(_, state)| rows::origin(&state.log_id) == origin);
                    let (log_epoch, state) = found.ok_or(Error::UnknownLog)?;
                    Read::of(tx, log_epoch, state).await?.sealed.consistency(tx, from, to).await
                })
            })
            .await
    }

    /// Returns a tile, or a bundle of leaves, as [`Log::resource`](crate::Log::resource) does.
    ///
    /// # Errors
    /// As there.
    pub async fn resource(&self, resource: Resource) -> Result<Vec<u8>, Error> {
        self.store.run(move |tx| Box::pin(read(tx, resource))).await
    }
}

async fn status(tx: &Transaction) -> Result<Status, Error> {
    let read = Read::newest(tx).await?;
    let (note, quorate_since) = (read.newest_note().to_owned(), read.quorate_since());
    let Read { state, cosigned, sealed, .. } = read;
    Ok(Status {
        head: sealed.head,
        note,
        signed_at: state.signed_at,
        quorate: cosigned.quorate,
        quorate_since,
        weight: state.others + state.own,
    })
}

async fn head_proof(
    tx: &Transaction,
    tenant: TenantId,
    size: u64,
    now: Timestamp,
) -> Result<HeadProof, Error> {
    let (_, log) = LogState::newest(tx, tenant).await?.ok_or(Error::Empty)?;
    let place = rows::head(tx, &crate::rows::origin(&log.log_id), size).await?;
    let place = place.ok_or(if size == 0 { Error::Empty } else { Error::UnknownHead(size) })?;
    let read = Read::at(tx, place.log_epoch).await?;
    let newest = State::newest(tx).await?.is_some_and(|(epoch, _)| epoch == read.log_epoch);
    // A log that was left behind grows no more: nobody waits for its witnesses.
    let shown = if newest { read.shown(now) } else { read.newest_note() };
    let shown = LogKeys::opened(tx, shown).await.map(|head| (head, shown.to_owned()))?;
    let (head, note) = match shown {
        shown if shown.0.size > place.index => shown,
        _ => (read.sealed.head.clone(), read.newest_note().to_owned()),
    };
    let (root, path) = read.sealed.path(tx, place.index, head.size).await?;
    let leaf = rows::entries(tx, place.log_epoch, place.index, 1).await?.remove(0);
    let fits =
        root == head.root && root_of_path(leaf_hash(&leaf), place.index, head.size, &path) == Some(root);
    let leaf = String::from_utf8(leaf.to_vec()).ok().filter(|_| fits);
    let leaf = leaf.ok_or_else(|| {
        Error::Damaged(format!("leaf {} of the platform log is not the one that was signed", place.index))
    })?;
    Ok(HeadProof {
        leaf,
        index: place.index,
        origin: head.origin,
        size: head.size,
        root,
        path,
        checkpoint: note,
    })
}

async fn read(tx: &Transaction, resource: Resource) -> Result<Vec<u8>, Error> {
    let Read { log_epoch, sealed, .. } = Read::newest(tx).await?;
    let Resource { at, width, entries } = resource;
    let tile = sealed.tile(tx, at, width).await?;
    if !entries {
        return Ok(tile.hashes.as_flattened().to_vec());
    }
    let mut out = Vec::new();
    let leaves = rows::entries(tx, log_epoch, at.index * BUNDLE, width).await?;
    for ((index, leaf), hash) in (at.index * BUNDLE..).zip(&leaves).zip(&tile.hashes) {
        if leaf_hash(leaf) != *hash {
            return Err(Error::Damaged(format!(
                "leaf {index} of the platform log is not the one that was signed"
            )));
        }
        let length = u16::try_from(leaf.len())
            .map_err(|_| Error::Damaged(format!("leaf {index} of the platform log is no head")))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(leaf);
    }
    Ok(out)
}
