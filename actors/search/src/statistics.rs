use aesp_audit::{Filter, Page, Position, Query, Span, query_in};
use aesp_proto::{
    PrincipalId, TenantId, Timestamp,
    v1::{EventType, Outcome},
};
use aesp_storage::{Error as StoreError, Row, Scan, Transaction, encode};

use crate::{
    Error, Index, Status, Tally,
    cells::Cells,
    groups::Groups,
    locate,
    rows::{self, CountsRow, Packed, SegmentRow},
    segment::{fine_counts, header},
};

/// Segments whose counts are added up in one transaction.
const STEP_SEGMENTS: usize = 256;
/// Segments that one question adds up; of the counts with principals and tools there is much more to read.
const COARSE_SEGMENTS: usize = 20_000;
const FINE_SEGMENTS: usize = 2_000;
/// Pages of a thousand events that one question reads from the log.
const PAGES: usize = 20;
const REPAIRS: usize = 3;

/// What events are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupBy {
    /// The hour (UTC).
    Hour,
    /// The day (UTC); with the hour, the hour.
    Day,
    /// The type.
    Kind,
    /// How it ended.
    Outcome,
    /// The operation.
    Action,
    /// Who did it.
    Principal,
    /// The tool that it was done to.
    Tool,
}

/// What is to be counted, in whose log.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Whose log.
    pub tenant: TenantId,
    /// Not before this time.
    pub start: Option<Timestamp>,
    /// Before this time.
    pub end: Option<Timestamp>,
    /// Only these.
    pub filter: Filter,
    /// What tells the lines apart; nothing gives one line.
    pub by: Vec<GroupBy>,
    /// Where the part before ended; empty for the first.
    pub cursor: String,
}

/// One line of the statistics; what events are not counted by is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The beginning of the hour or day.
    pub at: Option<Timestamp>,
    /// The type.
    pub kind: Option<EventType>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The operation.
    pub action: Option<String>,
    /// Who did it; none for what nobody known did.
    pub principal: Option<PrincipalId>,
    /// The tool; empty for what was done to none.
    pub tool: Option<String>,
    /// How many.
    pub tally: Tally,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// The lines, in the order of what they are counted by.
    pub groups: Vec<Group>,
    /// There was more than one question may count: ask on with it and add up. Empty when everything was counted.
    pub next_cursor: String,
    /// The index; what it does not hold was read from the log.
    pub index: Status,
}

/// What a question can be answered from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The counts by hour, type, outcome and action.
    Coarse,
    /// Those by principals and tools, too.
    Fine,
    /// The events.
    Events,
}

impl Question {
    fn query(&self) -> Query {
        Query {
            start: self.start,
            end: self.end,
            filter: self.filter.clone(),
            cursor: self.cursor.clone(),
            limit: 1_000,
            ..Query::new(self.tenant)
        }
    }

    fn source(&self) -> Source {
        let Filter { kinds, outcomes, actions, principals, tools, .. } = &self.filter;
        let counted = Filter {
            kinds: kinds.clone(),
            outcomes: outcomes.clone(),
            actions: actions.clone(),
            principals: principals.clone(),
            tools: tools.clone(),
            ..Filter::default()
        };
        if counted != self.filter {
            return Source::Events;
        }
        let fine = [GroupBy::Principal, GroupBy::Tool].iter().any(|by| self.by.contains(by));
        if fine || !principals.is_empty() || !tools.is_empty() { Source::Fine } else { Source::Coarse }
    }
}

impl Index {
    /// Counts events, exactly: from the counts of whole segments where these tell enough, else by looking at the events.
    ///
    /// # Errors
    /// [`Error::TooManyGroups`], [`aesp_audit::Error::InvalidCursor`], that of a damaged log, or the store's.
    pub async fn statistics(&self, question: &Question) -> Result<Statistics, Error> {
        question.query().after()?;
        let _timer = self.metrics.statistics_seconds.start_timer();
        let mut repairs = 0;
        loop {
            let counted = match question.source() {
                Source::Events => self.count_events(question).await,
                source => self.count_segments(question, source).await,
            };
            match counted {
                Err(Error::Segment(number)) if repairs < REPAIRS => {
                    repairs += 1;
                    self.repair(question.tenant, number).await?;
                }
                other => return other,
            }
        }
    }

    async fn count_events(&self, question: &Question) -> Result<Statistics, Error> {
        let (mut query, mut groups) = (question.query(), Groups::new(&question.by));
        let mut index = Status::default();
        for _ in 0..PAGES {
            let found = self.search(&query).await?;
            found.page.events.iter().try_for_each(|event| groups.event(event))?;
            (index, query.cursor) = (found.index, found.page.next_cursor);
            if query.cursor.is_empty() {
                break;
            }
        }
        Ok(Statistics { groups: groups.lines(), next_cursor: query.cursor, index })
    }

    async fn count_segments(&self, question: &Question, source: Source) -> Result<Statistics, Error> {
        let most = if source == Source::Coarse { COARSE_SEGMENTS } else { FINE_SEGMENTS };
        let (mut query, mut groups) = (question.query(), Groups::new(&question.by));
        let (mut segments, mut pages) = (0, 0);
        loop {
            let asked = query.clone();
            let step = self.store.run(move |tx| {
                let query = asked.clone();
                Box::pin(async move { step(tx, &query, source).await })
            });
            let step = step.await?;
            step.page.events.iter().try_for_each(|event| groups.event(event))?;
            for cells in &step.cells {
                groups.cells(cells, &question.filter)?;
            }
            segments += step.cells.len();
            pages += usize::from(step.looked);
            query.cursor = step.after.map(|after| query.cursor_after(&after)).unwrap_or_default();
            if query.cursor.is_empty() || segments >= most || pages >= PAGES {
                return Ok(Statistics {
                    groups: groups.lines(),
                    next_cursor: query.cursor,
                    index: step.index,
                });
            }
        }
    }
}

/// What one transaction counted.
#[derive(Default)]
struct Counted {
    cells: Vec<Cells>,
    page: Page,
    /// Whether the log was looked at.
    looked: bool,
    /// How far it came; nothing at the end.
    after: Option<Position>,
    index: Status,
}

/// Counts whole segments as far as they go, or else a page of the log.
async fn step(tx: &Transaction, query: &Query, source: Source) -> Result<Counted, Error> {
    let index = Status::from(rows::state(tx, query.tenant).await?);
    let after = query.after()?;
    let in_time = locate::in_time(tx, query.tenant, query.start, query.end, index.segments).await?;
    let part = locate::beyond(tx, query, after, in_time.clone()).await?;
    let mut counted = Counted { index, ..Counted::default() };
    if part.is_empty() {
        // After the index, or after the end of the question.
        if in_time.end < counted.index.segments {
            return Ok(counted);
        }
        let span = Span { after: counted.index.last, upto: None };
        return counted.look(tx, query, span, None).await;
    }
    let first = header(tx, query.tenant, part.start).await?;
    let begun = after.is_some_and(|after| after >= first_place(&first));
    if begun || !whole(query, &first) {
        let last = first.last.0;
        let span = Span { after: first.after.map(|place| place.0), upto: Some(last) };
        return counted.look(tx, query, span, Some(last)).await;
    }
    let most = usize::try_from(part.end - part.start).unwrap_or(usize::MAX).min(STEP_SEGMENTS);
    let segments = scan::<SegmentRow>(tx, query.tenant, part.start, most).await?;
    let whole = segments.iter().take_while(|segment| whole(query, segment)).count();
    if source == Source::Fine {
        for (number, CountsRow(Packed(packed))) in
            (part.start..).zip(scan::<CountsRow>(tx, query.tenant, part.start, whole).await?)
        {
            counted.cells.push(Cells::unpack(&packed).map_err(|_| Error::Segment(number))?);
        }
    } else {
        for (number, segment) in (part.start..).zip(&segments[..whole]) {
            counted.cells.push(Cells::unpack(&segment.counts.0).map_err(|_| Error::Segment(number))?);
        }
    }
    counted.after = segments[..whole].last().map(|segment| segment.last.0);
    Ok(counted)
}

impl Counted {
    /// Counts a page of a part of the log; after the part it goes on `then`.
    async fn look(
        mut self,
        tx: &Transaction,
        query: &Query,
        span: Span,
        then: Option<Position>,
    ) -> Result<Self, Error> {
        self.page = query_in(tx, query, span).await?;
        self.looked = true;
        self.after = match self.page.next_cursor.as_str() {
            "" => then,
            cursor => Query { cursor: cursor.into(), ..query.clone() }.after()?,
        };
        Ok(self)
    }
}

/// Returns the first place that may be in the segment.
fn first_place(segment: &SegmentRow) -> Position {
    segment.after.map_or([0; 16], |place| crate::places::next(&place.0))
}

/// Tells whether all events of the segment are in the time of the query.
fn whole(query: &Query, segment: &SegmentRow) -> bool {
    query.start.is_none_or(|start| segment.oldest >= start)
        && query.end.is_none_or(|end| segment.newest < end)
}

/// Reads the rows of so many segments, all of which must be there.
async fn scan<R: Row<Key = u64>>(
    tx: &Transaction,
    tenant: TenantId,
    first: u64,
    count: usize,
) -> Result<Vec<R>, Error> {
    let after = first.checked_sub(1).map(|number| encode(&number));
    let rows = tx.scan::<R>(tenant, Scan { after, limit: count, ..Scan::default() }).await;
    match rows {
        Ok(rows) => {
            let missing = (first..).take(count).zip(rows.iter().map(Some).chain(std::iter::repeat(None)));
            for (number, row) in missing {
                if row.is_none_or(|(key, _)| *key != number) {
                    return Err(Error::Segment(number));
                }
            }
            Ok(rows.into_iter().map(|(_, row)| row).collect())
        }
        Err(StoreError::Damaged { .. }) => {
            for number in (first..).take(count) {
                header(tx, tenant, number).await?;
                fine_counts(tx, tenant, number).await?;
            }
            // Sound one by one: what was read together was not all of it.
            Err(Error::Segment(first))
        }
        Err(error) => Err(error.into()),
    }
}
