use aesp_audit::{Opener, Page, Position, Query, Span, query_in, read_at};
use aesp_proto::TenantId;
use aesp_storage::Transaction;

use crate::{
    Error, Index, Status, locate, places,
    postings::candidates,
    rows,
    segment::{header, positions},
    terms,
};

/// Segments that are looked at first; the next times twice as many, so that a page of what is frequent reads little.
const FIRST_SEGMENTS: u64 = 8;
const MOST_SEGMENTS: u64 = 512;
/// Rows of the index that are read for one page; a page of a query that finds little comes back short, with a cursor.
const PAGE_ROWS: usize = 20_000;
/// Events that are compared for one page.
const PAGE_HITS: usize = 10_000;
/// Bytes of events on a page, after which it ends.
const PAGE_BYTES: usize = 2_000_000;
/// Segments that one search makes anew before it does without the index.
const REPAIRS: usize = 3;

/// A page of events, and how far the index was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The events.
    pub page: Page,
    /// The index; what it does not hold was read from the log.
    pub index: Status,
}

impl Index {
    /// Returns one page of what the query asks for, complete whatever the index holds.
    ///
    /// # Errors
    /// [`aesp_audit::Error::InvalidCursor`], that of a damaged log, or the store's.
    pub async fn search(&self, query: &Query) -> Result<Found, Error> {
        query.after()?;
        let _timer = self.metrics.search_seconds.start_timer();
        for _ in 0..REPAIRS {
            match self.search_once(query).await {
                Err(Error::Segment(number)) => self.repair(query.tenant, number).await?,
                other => return other,
            }
        }
        tracing::error!(tenant = %query.tenant, "an audit index is damaged in many places; the log is read instead");
        let page = aesp_audit::query(&self.store, query).await?;
        Ok(Found { page, index: Status::default() })
    }

    async fn search_once(&self, query: &Query) -> Result<Found, Error> {
        let query = query.clone();
        self.store
            .run(move |tx| {
                let query = query.clone();
                Box::pin(async move { search(tx, &query).await })
            })
            .await
    }
}

async fn search(tx: &Transaction, query: &Query) -> Result<Found, Error> {
    let state = rows::state(tx, query.tenant).await?;
    let index = Status::from(state.clone());
    let wanted = match &state {
        Some(state) if state.segments > 0 => {
            terms::wanted(&*tx.tenant_keys(query.tenant).await?, &query.filter)
        }
        _ => Vec::new(),
    };
    let (Some(last), false) = (index.last, wanted.is_empty()) else {
        let page = query_in(tx, query, Span::default()).await?;
        return Ok(Found { page, index });
    };
    let after = query.after()?;
    let behind = Span { after: Some(last), upto: None };
    let mut page = Page::default();
    if query.newest_first && after.is_none_or(|after| after > last) {
        page = query_in(tx, query, behind).await?;
        if !page.next_cursor.is_empty() {
            return Ok(Found { page, index });
        }
    }
    let segments = locate::in_time(tx, query.tenant, query.start, query.end, index.segments).await?;
    let segments = locate::beyond(tx, query, after, segments).await?;
    let mut reading =
        Reading { tx, query, opener: Opener::load(tx, query.tenant).await?, after, hits: 0, bytes: 0 };
    let ended = reading.segments(segments, &wanted, &mut page).await?;
    if ended && !query.newest_first {
        let rest = Query { limit: query.page_events() - page.events.len(), ..query.clone() };
        let more = query_in(tx, &rest, behind).await?;
        page.events.extend(more.events);
        page.next_cursor = more.next_cursor;
    }
    Ok(Found { page, index })
}

/// A page that is read from the index.
struct Reading<'a> {
    tx: &'a Transaction,
    query: &'a Query,
    opener: Opener,
    after: Option<Position>,
    hits: usize,
    bytes: usize,
}

impl Reading<'_> {
    /// Adds what is found in the segments, in the query's order; tells whether they were all looked at.
    async fn segments(
        &mut self,
        mut segments: std::ops::Range<u64>,
        wanted: &[Vec<crate::bucket::Term>],
        page: &mut Page,
    ) -> Result<bool, Error> {
        let (mut width, mut rows) = (FIRST_SEGMENTS, 0);
        while !segments.is_empty() {
            let part = if self.query.newest_first {
                let from = segments.end.saturating_sub(width).max(segments.start);
                let part = from..segments.end;
                segments.end = from;
                part
            } else {
                let to = (segments.start + width).min(segments.end);
                let part = segments.start..to;
                segments.start = to;
                part
            };
            let mut found = candidates(self.tx, self.query.tenant, part.clone(), wanted).await?;
            if self.query.newest_first {
                found.events.reverse();
            }
            for (number, events) in found.events {
                if !self.segment(number, events.iter().collect(), page).await? {
                    return Ok(false);
                }
            }
            rows += found.rows;
            if rows >= PAGE_ROWS && !segments.is_empty() {
                page.next_cursor = self.query.cursor_after(&self.edge(part).await?);
                return Ok(false);
            }
            width = (width * 2).min(MOST_SEGMENTS);
        }
        Ok(true)
    }

    /// Returns where a page ends that has seen all of these segments, and no more.
    async fn edge(&self, part: std::ops::Range<u64>) -> Result<Position, Error> {
        let tenant: TenantId = self.query.tenant;
        if !self.query.newest_first {
            return Ok(header(self.tx, tenant, part.end - 1).await?.last.0);
        }
        let before = header(self.tx, tenant, part.start).await?.after;
        Ok(before.map_or([0; 16], |place| places::next(&place.0)))
    }

    /// Adds the events of one segment that the log confirms; tells whether there is room for more.
    async fn segment(&mut self, number: u64, ordinals: Vec<usize>, page: &mut Page) -> Result<bool, Error> {
        let Self { tx, query, .. } = *self;
        let segment = header(tx, query.tenant, number).await?;
        let all = positions(tx, query.tenant, number, &segment).await?;
        let mut hits = Vec::with_capacity(ordinals.len());
        for ordinal in ordinals {
            hits.push(*all.get(ordinal).ok_or(Error::Segment(number))?);
        }
        if query.newest_first {
            hits.reverse();
        }
        if let Some(after) = self.after {
            hits.retain(|hit| if query.newest_first { *hit < after } else { *hit > after });
        }
        let limit = query.page_events();
        let mut hits = hits.as_slice();
        while !hits.is_empty() {
            let (now, later) = hits.split_at(hits.len().min(limit - page.events.len()));
            hits = later;
            let found = read_at(tx, query.tenant, now).await?;
            self.opener.learn(tx, found.iter().flatten().map(|stored| &stored.leaf)).await?;
            for (position, stored) in now.iter().zip(found) {
                // The log has nothing there: the index is wrong.
                let stored = stored.ok_or(Error::Segment(number))?;
                if let Some(event) = self.opener.admit(query, &stored.leaf) {
                    page.events.push(event);
                    self.bytes += stored.leaf.sealed.len();
                }
                self.hits += 1;
                let full = page.events.len() >= limit || self.bytes >= PAGE_BYTES;
                if full || self.hits >= PAGE_HITS {
                    page.next_cursor = query.cursor_after(position);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
