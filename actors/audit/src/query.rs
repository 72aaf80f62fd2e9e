use std::time::Duration;

use aesp_proto::{
    TenantId, Timestamp,
    v1::{AuditEvent, AuditLeaf},
};
use aesp_storage::{Range, Store, Transaction};
use prost::Message;

use crate::{
    Error, Filter, cursor,
    rows::{self, Position},
    shelf,
    view::{self, Keys},
};

/// The most events on a page.
const PAGE_EVENTS: usize = 1_000;
/// Events read for one page; a page of a query that finds little comes back short, with a cursor.
const PAGE_ROWS: usize = 10_000;
/// Bytes read for one page.
const PAGE_BYTES: usize = 5_000_000;
const READ_ROWS: usize = 500;
/// How far the times of neighbours in the log may be out of order: several writers, whose clocks differ and whose
/// commits take time.
pub const DISORDER: Duration = Duration::from_secs(60);

/// Which events of a tenant to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Whose log.
    pub tenant: TenantId,
    /// Not before this time.
    pub start: Option<Timestamp>,
    /// Before this time.
    pub end: Option<Timestamp>,
    /// Only these.
    pub filter: Filter,
    /// From the newest backwards.
    pub newest_first: bool,
    /// Events on the page, at most 1,000; 0 means 100.
    pub limit: usize,
    /// Where the page before ended; empty for the first.
    pub cursor: String,
}

/// One page of events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The events, in the order of the log or against it.
    pub events: Vec<AuditEvent>,
    /// For the next page, which may be empty; empty itself after the last.
    pub next_cursor: String,
}

impl Query {
    /// Asks for a tenant's whole log, oldest first.
    #[must_use]
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            start: None,
            end: None,
            filter: Filter::default(),
            newest_first: false,
            limit: 0,
            cursor: String::new(),
        }
    }

    /// Returns the readable event of a leaf that the query asks for.
    pub(crate) fn admit(&self, leaf: &AuditLeaf, keys: &Keys) -> Option<AuditEvent> {
        let at = Timestamp(leaf.timestamp_ms);
        let in_time = self.start.is_none_or(|start| at >= start) && self.end.is_none_or(|end| at < end);
        if !in_time || !self.filter.admits_leaf(leaf) {
            return None;
        }
        let event = view::event(leaf, keys);
        self.filter.admits_inside(&event).then_some(event)
    }

    /// Returns how many events a page has.
    #[must_use]
    pub fn page_events(&self) -> usize {
        if self.limit == 0 { 100 } else { self.limit.min(PAGE_EVENTS) }
    }

    /// Returns where the page before ended.
    ///
    /// # Errors
    /// [`Error::InvalidCursor`] if it was a page of another query.
    pub fn after(&self) -> Result<Option<Position>, Error> {
        match self.cursor.as_str() {
            "" => Ok(None),
            text => cursor::decode(self, text).map(Some),
        }
    }

    /// Returns the cursor of a page that ended with this event.
    #[must_use]
    pub fn cursor_after(&self, position: &Position) -> String {
        cursor::encode(self, position)
    }

    /// Tells whether no event of the query can come after one of this time.
    fn is_past(&self, at: Timestamp) -> bool {
        if self.newest_first {
            self.start.is_some_and(|start| at.plus(DISORDER) < start)
        } else {
            self.end.is_some_and(|end| at >= end.plus(DISORDER))
        }
    }

    async fn range(&self, tx: &Transaction, after: Option<Position>) -> Result<Range, Error> {
        let prefix = rows::events(self.tenant);
        let mut range = Range::prefix(&prefix).reverse(self.newest_first).snapshot(true);
        let key = |position: &[u8]| [prefix.as_slice(), position].concat();
        match (after, self.newest_first) {
            (Some(position), true) => range.end = key(&position),
            (Some(position), false) => range.start = key(&[position.as_slice(), &[0]].concat()),
            (None, true) => {
                if let Some(end) = self.end {
                    range.end = shelf::seek(tx, self.tenant, end.plus(DISORDER)).await?;
                }
            }
            (None, false) => {
                if let Some(start) = self.start {
                    let disorder = i64::try_from(DISORDER.as_millis()).unwrap_or(i64::MAX);
                    let at = Timestamp(start.0.saturating_sub(disorder));
                    range.start = shelf::seek(tx, self.tenant, at).await?;
                }
            }
        }
        Ok(range)
    }
}

/// A part of a tenant's log, in the order of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// What comes after this event.
    pub after: Option<Position>,
    /// Up to and with this event.
    pub upto: Option<Position>,
}

/// Reads one page, event by event.
///
/// # Errors
/// [`Error::InvalidCursor`], [`Error::Damaged`], or the store's.
pub async fn query(store: &Store, query: &Query) -> Result<Page, Error> {
    query.after()?;
    let query = query.clone();
    store
        .run(move |tx| {
            let query = query.clone();
            Box::pin(async move { query_in(tx, &query, Span::default()).await })
        })
        .await
}

/// Reads one page of a part of the log, as [`query`] does; the page ends with the part.
///
/// # Errors
/// As [`query`].
pub async fn query_in(tx: &Transaction, query: &Query, span: Span) -> Result<Page, Error> {
    let after = query.after()?;
    let limit = query.page_events();
    let mut keys = Keys::load(tx, query.tenant).await?;
    let mut range = query.range(tx, after).await?;
    span.bound(query.tenant, &mut range);
    let (mut page, mut rows_read, mut bytes_read) = (Page::default(), 0, 0);
    loop {
        let rows = shelf::range(tx, query.tenant, range.clone().limit(READ_ROWS)).await?;
        let last = rows.len() < READ_ROWS;
        let leaves = rows.iter().map(|(_, value)| AuditLeaf::decode(value.as_ref()));
        let leaves = leaves.collect::<Result<Vec<_>, _>>().map_err(|_| Error::Damaged("an event"))?;
        keys.learn(tx, leaves.iter().filter(|leaf| query.filter.admits_leaf(leaf))).await?;
        for ((key, value), leaf) in rows.iter().zip(leaves) {
            if query.is_past(Timestamp(leaf.timestamp_ms)) {
                return Ok(page);
            }
            page.events.extend(query.admit(&leaf, &keys));
            rows_read += 1;
            bytes_read += key.len() + value.len();
            if page.events.len() >= limit || rows_read >= PAGE_ROWS || bytes_read >= PAGE_BYTES {
                let position = rows::position(key).ok_or(Error::Damaged("an event's key"))?;
                page.next_cursor = cursor::encode(query, &position);
                return Ok(page);
            }
        }
        let Some((key, _)) = rows.last().filter(|_| !last) else { return Ok(page) };
        if query.newest_first {
            range.end = key.to_vec();
        } else {
            range.start = [key.as_ref(), &[0]].concat();
        }
    }
}

impl Span {
    /// Leaves of a range of events what lies in this part.
    pub(crate) fn bound(&self, tenant: TenantId, range: &mut Range) {
        let past = |position: Position| [rows::events(tenant).as_slice(), &position, &[0]].concat();
        if let Some(after) = self.after {
            range.start = std::mem::take(&mut range.start).max(past(after));
        }
        if let Some(upto) = self.upto {
            range.end = std::mem::take(&mut range.end).min(past(upto));
        }
    }
}
