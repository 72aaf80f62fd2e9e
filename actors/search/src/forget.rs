//! Having the index forget what can't be read any more.

use std::ops::ControlFlow;

use aesp_audit::{Position, Span, read_span};
use aesp_proto::{TenantId, Timestamp, v1::AuditLeaf};
use aesp_storage::Transaction;

use crate::{Error, Index, ordinals::SEGMENT_EVENTS, rows, segment};

impl Index {
    /// Shows `look` the events of a segment if `in_time` says so of its oldest and newest event, and makes the segment anew if it says
    /// yes to one of them: without what can't be opened any more. Breaks where there is no such segment; goes on with the place of
    /// the segment's last event.
    ///
    /// A segment that is damaged has the whole index made anew, which comes to the same.
    ///
    /// # Errors
    /// The store's, or that of a damaged log.
    pub async fn revise(
        tx: &Transaction,
        tenant: TenantId,
        number: u64,
        in_time: impl Fn(Timestamp, Timestamp) -> bool + Send,
        mut look: impl FnMut(&AuditLeaf) -> bool + Send,
    ) -> Result<ControlFlow<(), Position>, Error> {
        let state = rows::state(tx, tenant).await?.unwrap_or_default();
        if number >= state.segments {
            return Ok(ControlFlow::Break(()));
        }
        let header = match segment::header(tx, tenant, number).await {
            Err(Error::Segment(_)) => {
                Self::rebuild(tx, tenant).await?;
                return Ok(ControlFlow::Break(()));
            }
            header => header?,
        };
        if !in_time(header.oldest, header.newest) {
            return Ok(ControlFlow::Continue(header.last.0));
        }
        let after = header.after.map(|place| place.0);
        let span = Span { after, upto: Some(header.last.0) };
        let stored = read_span(tx, tenant, span, SEGMENT_EVENTS + 1).await?;
        if stored.len() != header.events as usize {
            Self::rebuild(tx, tenant).await?;
            return Ok(ControlFlow::Break(()));
        }
        let mut found = false;
        for one in &stored {
            found |= look(&one.leaf);
        }
        if found {
            segment::write(tx, tenant, number, after, &stored).await?;
        }
        Ok(ControlFlow::Continue(header.last.0))
    }
}
