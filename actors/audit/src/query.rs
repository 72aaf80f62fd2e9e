use std::time::Duration;

use aesp_proto::{
    PrincipalId, SessionId, TenantId, Timestamp,
    v1::{AuditEvent, AuditLeaf, EventType, Outcome},
};
use aesp_storage::{Range, Store, Transaction};
use prost::Message;

use crate::{
    Error, cursor,
    rows::{self, Position},
    seek::seek,
    view,
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
const DISORDER: Duration = Duration::from_secs(60);

/// Which events of a tenant to read. An empty filter lets everything pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whose log.
    pub tenant: TenantId,
    /// Not before this time.
    pub start: Option<Timestamp>,
    /// Before this time.
    pub end: Option<Timestamp>,
    /// Only these types.
    pub kinds: Vec<EventType>,
    /// Only what this principal did, or a Runtime on its behalf.
    pub principal: Option<PrincipalId>,
    /// Only within this session.
    pub session: Option<SessionId>,
    /// Only what ended so.
    pub outcome: Option<Outcome>,
    /// Only this action.
    pub action: Option<String>,
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
            kinds: Vec::new(),
            principal: None,
            session: None,
            outcome: None,
            action: None,
            newest_first: false,
            limit: 0,
            cursor: String::new(),
        }
    }

    fn matches(&self, leaf: &AuditLeaf) -> bool {
        let at = Timestamp(leaf.timestamp_ms);
        let principal = self.principal.as_ref().map(PrincipalId::as_bytes);
        self.start.is_none_or(|start| at >= start)
            && self.end.is_none_or(|end| at < end)
            && (self.kinds.is_empty() || self.kinds.contains(&leaf.event_type()))
            && principal.is_none_or(|id| leaf.principal_id == id || leaf.on_behalf_of == id)
            && self.session.is_none_or(|id| leaf.session_id == id.as_bytes())
            && self.outcome.is_none_or(|outcome| leaf.outcome() == outcome)
            && self.action.as_ref().is_none_or(|action| leaf.action == *action)
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
                    range.end = seek(tx, &range, end.plus(DISORDER)).await?;
                }
            }
            (None, false) => {
                if let Some(start) = self.start {
                    let disorder = i64::try_from(DISORDER.as_millis()).unwrap_or(i64::MAX);
                    range.start = seek(tx, &range, Timestamp(start.0.saturating_sub(disorder))).await?;
                }
            }
        }
        Ok(range)
    }
}

/// Reads one page.
///
/// # Errors
/// [`Error::InvalidCursor`], [`Error::Damaged`], or the store's.
pub async fn query(store: &Store, query: &Query) -> Result<Page, Error> {
    let after = match query.cursor.as_str() {
        "" => None,
        text => Some(cursor::decode(query, text)?),
    };
    let query = query.clone();
    store
        .run(move |tx| {
            let query = query.clone();
            Box::pin(async move { read(tx, &query, after).await })
        })
        .await
}

async fn read(tx: &Transaction, query: &Query, after: Option<Position>) -> Result<Page, Error> {
    let limit = if query.limit == 0 { 100 } else { query.limit.min(PAGE_EVENTS) };
    let keys = view::keys(tx, query.tenant).await?;
    let mut range = query.range(tx, after).await?;
    let (mut page, mut rows_read, mut bytes_read) = (Page::default(), 0, 0);
    loop {
        let rows = tx.range_raw(range.clone().limit(READ_ROWS)).await?;
        let last = rows.len() < READ_ROWS;
        for (key, value) in &rows {
            let leaf = AuditLeaf::decode(value.as_ref()).map_err(|_| Error::Damaged("an event"))?;
            if query.is_past(Timestamp(leaf.timestamp_ms)) {
                return Ok(page);
            }
            if query.matches(&leaf) {
                page.events.push(view::event(&leaf, &keys));
            }
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
