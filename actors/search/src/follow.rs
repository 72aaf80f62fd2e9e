use aesp_audit::{Opener, Position, Query, Span, end_of_log, place_before, read_span};
use aesp_proto::{Timestamp, v1::AuditEvent};
use aesp_storage::Store;

use crate::Error;

/// Events that are looked at in one transaction.
const ROWS: usize = 500;
/// Bytes of events after which a part ends.
const PART_BYTES: usize = 1_000_000;

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what is committed from now on.
    Now,
    /// At the first event of this time or later.
    At(Timestamp),
    /// After what was seen before this cursor.
    After(String),
}

/// Reads a tenant's log as it grows: every event that the filter admits, once, in the order of the log, wherever it was committed.
pub struct Follow {
    store: Store,
    query: Query,
    /// Nothing before this time, of the events around the place where it began.
    start: Option<Timestamp>,
    after: Option<Position>,
}

/// What has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// The events that the filter admits.
    pub events: Vec<AuditEvent>,
    /// Goes on after them, and after those that it did not admit; empty before the first event of the log.
    pub cursor: String,
    /// Nothing more was there.
    pub at_end: bool,
}

impl Follow {
    /// Begins to read what the query asks for; its times, limit and direction are not looked at.
    ///
    /// # Errors
    /// [`aesp_audit::Error::InvalidCursor`] if the cursor is of another query, or the store's.
    pub async fn begin(store: &Store, query: &Query, begin: Begin) -> Result<Self, Error> {
        let tenant = query.tenant;
        let mut query = Query { filter: query.filter.clone(), ..Query::new(tenant) };
        let (start, after) = match begin {
            Begin::Now => (None, store.run(move |tx| Box::pin(end_of_log(tx, tenant))).await?),
            Begin::At(at) => (Some(at), store.run(move |tx| Box::pin(place_before(tx, tenant, at))).await?),
            Begin::After(cursor) => {
                query.cursor = cursor;
                (None, query.after()?)
            }
        };
        query.cursor.clear();
        Ok(Self { store: store.clone(), query, start, after })
    }

    /// Returns the next part; an empty one at the end.
    ///
    /// # Errors
    /// The store's, or that of a damaged log. The same part comes again with the next call.
    pub async fn next(&mut self) -> Result<News, Error> {
        let (query, span) = (self.query.clone(), Span { after: self.after, upto: None });
        let start = self.start;
        let read = self.store.run(move |tx| {
            let query = query.clone();
            Box::pin(async move {
                let mut opener = Opener::load(tx, query.tenant).await?;
                let stored = read_span(tx, query.tenant, span, ROWS).await?;
                opener.learn(tx, stored.iter().map(|one| &one.leaf)).await?;
                let (mut events, mut bytes, mut after) = (Vec::new(), 0, span.after);
                let mut at_end = stored.len() < ROWS;
                for one in stored {
                    if bytes >= PART_BYTES {
                        at_end = false;
                        break;
                    }
                    after = Some(one.position);
                    if start.is_none_or(|start| one.leaf.timestamp_ms >= start.0)
                        && let Some(event) = opener.admit(&query, &one.leaf)
                    {
                        bytes += one.leaf.sealed.len();
                        events.push(event);
                    }
                }
                Ok::<_, Error>((events, after, at_end))
            })
        });
        let (events, after, at_end) = read.await?;
        self.after = after;
        let cursor = after.map(|after| self.query.cursor_after(&after)).unwrap_or_default();
        Ok(News { events, cursor, at_end })
    }
}
