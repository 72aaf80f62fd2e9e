//! The log for those who build something behind it: events in their order, with their places.

use aesp_proto::{
    TenantId, Timestamp,
    v1::{AuditEvent, AuditLeaf},
};
use aesp_storage::{Range, Transaction};
use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message;

use crate::{
    Error, Query, Span,
    query::DISORDER,
    rows::{self, Position},
    shelf,
    view::{self, Keys},
};

/// An event as it lies in its tenant's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Where.
    pub position: Position,
    /// What is hashed and chained.
    pub leaf: AuditLeaf,
}

/// Opens the sealed parts of a tenant's events, as long as their keys are there.
pub struct Opener(Keys);

impl Opener {
    /// Loads the tenant's keys. Without them the open part of an event can still be read.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(tx: &Transaction, tenant: TenantId) -> Result<Self, Error> {
        Ok(Self(Keys::load(tx, tenant).await?))
    }

    /// Finds the keys of these events, so that they can be opened.
    ///
    /// # Errors
    /// The store's.
    pub async fn learn<'l>(
        &mut self,
        tx: &Transaction,
        leaves: impl IntoIterator<Item = &'l AuditLeaf> + Send,
    ) -> Result<(), Error> {
        Ok(self.0.learn(tx, leaves).await?)
    }

    /// Tells whether the tenant has keys.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.0.usable()
    }

    /// Returns the readable event. Those that were not shown to [`learn`](Self::learn) stay shut.
    #[must_use]
    pub fn event(&self, leaf: &AuditLeaf) -> AuditEvent {
        view::event(leaf, &self.0)
    }

    /// Returns the readable event if the query asks for it.
    #[must_use]
    pub fn admit(&self, query: &Query, leaf: &AuditLeaf) -> Option<AuditEvent> {
        query.admit(leaf, &self.0)
    }
}

/// Returns the first events of a part of the tenant's log, at most `limit`. Later changes don't conflict: the log only grows.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn read_span(
    tx: &Transaction,
    tenant: TenantId,
    span: Span,
    limit: usize,
) -> Result<Vec<Stored>, Error> {
    let mut range = Range::prefix(&rows::events(tenant)).limit(limit).snapshot(true);
    span.bound(tenant, &mut range);
    shelf::range(tx, tenant, range).await?.iter().map(|(key, leaf)| stored(key, leaf)).collect()
}

/// Returns the event at each of the places; none where there is none.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn read_at(
    tx: &Transaction,
    tenant: TenantId,
    positions: &[Position],
) -> Result<Vec<Option<Stored>>, Error> {
    let one = async |position: &Position| {
        let key = [rows::events(tenant).as_slice(), position].concat();
        let Some(leaf) = shelf::get(tx, tenant, &key).await? else { return Ok(None) };
        stored(&Bytes::from(key), &leaf).map(Some)
    };
    try_join_all(positions.iter().map(one)).await
}

/// Returns a place before every event of this time or later, and after most of the others; nothing for the beginning.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn place_before(
    tx: &Transaction,
    tenant: TenantId,
    at: Timestamp,
) -> Result<Option<Position>, Error> {
    let disorder = i64::try_from(DISORDER.as_millis()).unwrap_or(i64::MAX);
    let key = shelf::seek(tx, tenant, Timestamp(at.0.saturating_sub(disorder))).await?;
    match rows::position(&key) {
        Some(first) => Ok(u128::from_be_bytes(first).checked_sub(1).map(u128::to_be_bytes)),
        // Beyond all that there is, or there is nothing.
        None => end_of_log(tx, tenant).await,
    }
}

/// Returns the place of the tenant's last event.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn end_of_log(tx: &Transaction, tenant: TenantId) -> Result<Option<Position>, Error> {
    let last = Range::prefix(&rows::events(tenant)).limit(1).reverse(true).snapshot(true);
    let last = shelf::range(tx, tenant, last).await?;
    let place = |key: &Bytes| rows::position(key).ok_or(Error::Damaged("an event's key"));
    last.first().map(|(key, _)| place(key)).transpose()
}

fn stored(key: &Bytes, leaf: &Bytes) -> Result<Stored, Error> {
    let position = rows::position(key).ok_or(Error::Damaged("an event's key"))?;
    let leaf = AuditLeaf::decode(leaf.as_ref()).map_err(|_| Error::Damaged("an event"))?;
    Ok(Stored { position, leaf })
}
