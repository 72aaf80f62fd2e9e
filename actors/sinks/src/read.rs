//! Reading a tenant's log onwards for a sink.

use std::sync::Arc;

use aesp_audit::{Found, Position, ReadFrom, Tail};
use aesp_cluster::Fence;
use aesp_proto::{EventId, TenantId, Timestamp, v1::AuditEvent};
use aesp_storage::{Blind, Store};
use tokio::time::Instant;

use crate::{
    Error,
    filter::Filter,
    parcel::{Entry, Parcel, What},
    rows::CursorRow,
    state::{Event, Limits},
    transport::Transport,
};

/// What one sink reads with.
pub(crate) struct Reader {
    pub(crate) store: Store,
    pub(crate) sink: Blind,
    pub(crate) filter: Filter,
    pub(crate) limits: Limits,
    pub(crate) transport: Arc<dyn Transport>,
}

/// Events looked at in one read, whether they pass the filter or not.
const READ_EVENTS: usize = 1_000;

impl Reader {
    /// Reads what follows `after`, or the cursor if that is not known.
    pub(crate) async fn read(&self, tenant: TenantId, fence: Fence, after: Option<Position>) -> Event {
        if !self.filter.takes(tenant) {
            // There is nothing for this sink in its log, and no cursor is kept.
            return Event::Read { tenant, fence, entries: Vec::new(), more: false };
        }
        match self.tail(tenant, fence, after).await {
            Ok(Tail { events, more }) => {
                let now = Instant::now();
                let entries = events.into_iter().map(|found| self.entry(tenant, fence, found, now)).collect();
                Event::Read { tenant, fence, entries, more }
            }
            Err(Error::Store(aesp_storage::Error::Fenced { .. }))
            | Err(Error::Log(aesp_audit::Error::Store(aesp_storage::Error::Fenced { .. }))) => {
                Event::Lost { tenant, fence }
            }
            Err(error) => {
                tracing::warn!(%tenant, %error, "a log can't be read for an audit sink; tried again later");
                Event::ReadFailed { tenant }
            }
        }
    }

    async fn tail(&self, tenant: TenantId, fence: Fence, after: Option<Position>) -> Result<Tail, Error> {
        let (sink, since) = (self.sink, self.filter.since);
        let (events, bytes) = (self.limits.batch_events.min(READ_EVENTS), self.limits.batch_bytes);
        let tail = self.store.run(move |tx| {
            Box::pin(async move {
                fence.check(tx).await?;
                let from = match after {
                    Some(position) => ReadFrom::After(position),
                    None => begin(tx.get::<CursorRow>(tenant, &sink).await?, since),
                };
                aesp_audit::tail(tx, tenant, from, events, bytes).await
            })
        });
        Ok(tail.await?)
    }

    fn entry(&self, tenant: TenantId, fence: Fence, (position, event): Found, since: Instant) -> Entry {
        let (at, what) = match event {
            Ok(event) => (Timestamp(event.timestamp_ms), self.what(tenant, position, &event)),
            Err(error) => {
                (Timestamp::default(), What::Unsendable(EventId::from_bytes([0; 16]), error.to_string()))
            }
        };
        Entry { tenant, fence, position, at, since, what }
    }

    fn what(&self, tenant: TenantId, position: Position, event: &AuditEvent) -> What {
        if !self.filter.passes(event) {
            return What::Skip;
        }
        match parcel(&*self.transport, tenant, position, event) {
            Ok(parcel) => What::Send(Arc::new(parcel)),
            Err((id, why)) => What::Unsendable(id, why),
        }
    }
}

/// The most bytes of one event in any format; leaves are below 90 kB.
const EVENT_BYTES: usize = 1 << 20;

/// Makes a parcel of an event.
///
/// # Errors
/// Why it can't be sent.
pub(crate) fn parcel(
    transport: &dyn Transport,
    tenant: TenantId,
    position: Position,
    event: &AuditEvent,
) -> Result<Parcel, (EventId, String)> {
    let nobody = EventId::from_bytes([0; 16]);
    let id: EventId =
        event.event_id.parse().map_err(|_| (nobody, "the event has no id: its record is damaged".into()))?;
    let bytes = transport.encode(event);
    if bytes.len() > EVENT_BYTES {
        let why =
            format!("the event has {} bytes in the sink's format, more than {EVENT_BYTES}", bytes.len());
        return Err((id, why));
    }
    let about_sinks = event.action.starts_with(ABOUT_SINKS);
    Ok(Parcel { tenant, position, event: id, at: Timestamp(event.timestamp_ms), bytes, about_sinks })
}

/// What the actions of events about sinks begin with.
pub(crate) const ABOUT_SINKS: &str = "sink.";

fn begin(cursor: Option<CursorRow>, since: Option<Timestamp>) -> ReadFrom {
    match (cursor, since) {
        (Some(cursor), _) => ReadFrom::After(cursor.position),
        (None, Some(since)) => ReadFrom::About(since),
        (None, None) => ReadFrom::Beginning,
    }
}
