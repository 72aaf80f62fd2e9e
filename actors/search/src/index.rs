use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aesp_audit::{Position, Span, end_of_log, read_span};
use aesp_cluster::Fence;
use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Error as StoreError, Store, Transaction};

use crate::{
    Error, Metrics,
    ordinals::SEGMENT_EVENTS,
    rows::{self, Place, StateRow},
    segment,
};

/// Tenants of which it is remembered how much of their log waits.
const REMEMBERED: usize = 10_000;

/// The index of the tenants' logs. Cheap to clone.
///
/// It is built behind the log, in segments of as many events as fit: what is not in a whole segment yet is read from the log by
/// whoever asks, so that an answer is always complete. It is never believed: a hit counts once the log has confirmed it, and a
/// segment that can't be read is made anew from the log.
#[derive(Clone)]
pub struct Index {
    pub(crate) store: Store,
    segment_events: usize,
    pub(crate) metrics: Metrics,
    waiting: Arc<Mutex<HashMap<TenantId, Waiting>>>,
}

/// How far the log was counted beyond the index: spares reading it again and again until a segment is full. A hint.
#[derive(Clone, Copy)]
struct Waiting {
    /// Where the index ended.
    base: Option<Position>,
    seen: Position,
    events: usize,
}

/// How a step of the index went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is another segment's worth of events.
    More,
    /// What remains does not fill a segment.
    AtEnd,
}

/// How far a tenant's index is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Segments.
    pub segments: u64,
    /// Events in them.
    pub events: u64,
    /// The time of the newest event in them; 0 if there is none.
    pub newest: Timestamp,
    /// The last event in them.
    pub last: Option<Position>,
    /// Whether it can be used: not once the tenant's keys are gone.
    pub usable: bool,
}

impl Index {
    /// Opens the index.
    #[must_use]
    pub fn new(store: Store, metrics: Metrics) -> Self {
        Self { store, metrics, segment_events: SEGMENT_EVENTS, waiting: Arc::default() }
    }

    /// Makes its segments smaller: at most 4,096 events. For tests.
    #[must_use]
    pub fn in_segments_of(self, events: usize) -> Self {
        Self { segment_events: events.clamp(1, SEGMENT_EVENTS), ..self }
    }

    /// Adds the next segment to the tenant's index, if there are as many events: in one transaction, which fails if the shard of
    /// `fence` has a newer owner.
    ///
    /// # Errors
    /// The store's, or that of a damaged log.
    pub async fn advance(&self, tenant: TenantId, fence: Fence) -> Result<Step, Error> {
        if let Some(waiting) = self.waiting(tenant)
            && !self.is_full(tenant, waiting, fence).await?
        {
            return Ok(Step::AtEnd);
        }
        let events = self.segment_events;
        let built = self.store.run(move |tx| {
            Box::pin(async move {
                fence.check(tx).await?;
                build(tx, tenant, events).await
            })
        });
        match built.await? {
            Built::Segment => {
                self.metrics.indexed_events.inc_by(events as u64);
                self.remember(tenant, None);
                Ok(Step::More)
            }
            Built::Nothing => Ok(Step::AtEnd),
            Built::Waits { base, seen, events } => {
                self.remember(tenant, Some(Waiting { base, seen, events }));
                Ok(Step::AtEnd)
            }
        }
    }

    /// Counts what has come since the last look; tells whether it fills a segment.
    async fn is_full(&self, tenant: TenantId, waiting: Waiting, fence: Fence) -> Result<bool, Error> {
        let most = self.segment_events - waiting.events.min(self.segment_events);
        let looked = self.store.run(move |tx| {
            Box::pin(async move {
                fence.check(tx).await?;
                let state = rows::state(tx, tenant).await?;
                let same = state.is_some_and(|state| state.last.map(|place| place.0) == waiting.base);
                let span = Span { after: Some(waiting.seen), upto: None };
                Ok::<_, Error>((same, read_span(tx, tenant, span, most).await?))
            })
        });
        let (same, more) = looked.await?;
        if !same {
            self.remember(tenant, None);
            return Ok(true);
        }
        let events = waiting.events + more.len();
        let seen = more.last().map_or(waiting.seen, |stored| stored.position);
        self.remember(tenant, Some(Waiting { seen, events, ..waiting }));
        Ok(events >= self.segment_events)
    }

    fn waiting(&self, tenant: TenantId) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).copied()
    }

    fn remember(&self, tenant: TenantId, waiting: Option<Waiting>) {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting {
            None => drop(all.remove(&tenant)),
            Some(waiting) => {
                if all.len() >= REMEMBERED && !all.contains_key(&tenant) {
                    all.clear();
                }
                all.insert(tenant, waiting);
            }
        }
    }

    /// Tells how far the tenant's index is, and whether the log ends there.
    ///
    /// # Errors
    /// The store's.
    pub async fn status(&self, tenant: TenantId) -> Result<(Status, bool), Error> {
        self.store
            .run(move |tx| {
                Box::pin(async move {
                    let status = Status::from(rows::state(tx, tenant).await?);
                    let at_end = end_of_log(tx, tenant).await? == status.last;
                    Ok((status, at_end))
                })
            })
            .await
    }

    /// Begins the tenant's index anew. Until it has caught up, what it lacks is read from the log.
    ///
    /// # Errors
    /// The store's; [`StoreError::KeyDestroyed`] if the tenant has no keys.
    pub async fn rebuild(tx: &Transaction, tenant: TenantId) -> Result<(), StoreError> {
        // The segments that are there are written over: each holds the same events as before.
        tx.put(tenant, &(), &StateRow::default()).await
    }

    /// Makes one segment anew. If it is not known any more which events it held, the index ends before it and grows again.
    ///
    /// # Errors
    /// The store's, or that of a damaged log.
    pub(crate) async fn repair(&self, tenant: TenantId, number: u64) -> Result<(), Error> {
        tracing::warn!(%tenant, segment = number, "a segment of the audit index is made anew");
        self.metrics.repaired_segments.inc();
        self.store.run(move |tx| Box::pin(async move { repair(tx, tenant, number).await })).await
    }
}

/// What came of the attempt to build a segment.
enum Built {
    Segment,
    Nothing,
    Waits { base: Option<Position>, seen: Position, events: usize },
}

async fn build(tx: &Transaction, tenant: TenantId, events: usize) -> Result<Built, Error> {
    // Without keys there is nothing to be found by.
    let Some(state) = rows::state(tx, tenant).await? else { return Ok(Built::Nothing) };
    let base = state.last.map(|place| place.0);
    let stored = read_span(tx, tenant, Span { after: base, upto: None }, events).await?;
    let Some(seen) = stored.last().map(|stored| stored.position) else { return Ok(Built::Nothing) };
    if stored.len() < events {
        return Ok(Built::Waits { base, seen, events: stored.len() });
    }
    let segment = segment::write(tx, tenant, state.segments, base, &stored).await?;
    let state = StateRow {
        segments: state.segments + 1,
        last: Some(segment.last),
        events: state.events + u64::from(segment.events),
        newest: state.newest.max(segment.newest),
    };
    tx.put(tenant, &(), &state).await?;
    Ok(Built::Segment)
}

async fn repair(tx: &Transaction, tenant: TenantId, number: u64) -> Result<(), Error> {
    let Some(state) = rows::state(tx, tenant).await? else { return Ok(()) };
    if number >= state.segments {
        return Ok(());
    }
    match segment::header(tx, tenant, number).await {
        Ok(header) => {
            let after = header.after.map(|place| place.0);
            let span = Span { after, upto: Some(header.last.0) };
            let stored = read_span(tx, tenant, span, SEGMENT_EVENTS + 1).await?;
            if stored.len() == header.events as usize {
                segment::write(tx, tenant, number, after, &stored).await?;
                return Ok(());
            }
        }
        Err(Error::Segment(_)) => {}
        Err(error) => return Err(error),
    }
    let before = match number.checked_sub(1) {
        Some(before) => segment::header(tx, tenant, before).await.ok(),
        None => None,
    };
    let state = match before {
        Some(before) => {
            let mut events = 0;
            for earlier in 0..number {
                // What is only a figure for people is not worth failing for.
                events +=
                    segment::header(tx, tenant, earlier).await.map_or(0, |header| u64::from(header.events));
            }
            StateRow { segments: number, last: Some(before.last), events, newest: before.newest }
        }
        None => StateRow::default(),
    };
    tx.put(tenant, &(), &state).await?;
    Ok(())
}

impl From<Option<StateRow>> for Status {
    fn from(state: Option<StateRow>) -> Self {
        let usable = state.is_some();
        let StateRow { segments, last, events, newest } = state.unwrap_or_default();
        Self { segments, events, newest, last: last.map(|Place(position)| position), usable }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}
