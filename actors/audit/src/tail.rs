//! Reading a tenant's log onwards from a place in it, for what follows the log.

use aesp_proto::{
    TenantId, Timestamp,
    v1::{AuditEvent, AuditLeaf},
};
use aesp_storage::Transaction;
use bytes::Bytes;
use prost::Message;

use crate::{
    Error, events,
    reader::{Opener, place_before, read_at},
    rows::Position,
};

/// Where to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the tenant's first event.
    Beginning,
    /// Behind this event.
    After(Position),
    /// A minute before this time or a little earlier, so that no event of this time or a later one is missed.
    About(Timestamp),
}

/// An event with its place, or why its stored bytes can't be read.
pub type Found = (Position, Result<AuditEvent, Error>);

/// What comes next in a log.
#[derive(Debug, Default)]
pub struct Tail {
    /// The events, in the order of the log.
    pub events: Vec<Found>,
    /// Whether there may be more behind them.
    pub more: bool,
}

/// Reads a tenant's next events, at most `limit` and about `limit_bytes` of stored bytes. Sensitive fields whose keys were destroyed
/// are empty, as in a query.
///
/// # Errors
/// The store's. An event that can't be read is no error: it stands in the result.
pub async fn tail(
    tx: &Transaction,
    tenant: TenantId,
    from: ReadFrom,
    limit: usize,
    limit_bytes: usize,
) -> Result<Tail, Error> {
    let after = match from {
        ReadFrom::Beginning => None,
        ReadFrom::After(position) => Some(position),
        ReadFrom::About(time) => place_before(tx, tenant, time).await?,
    };
    let mut opener = Opener::load(tx, tenant).await?;
    let found = events::after(tx, tenant, after, limit, limit_bytes).await?;
    let bytes: usize = found.iter().map(|(_, leaf)| leaf.len()).sum();
    let more = found.len() >= limit || bytes >= limit_bytes;
    let decode = |(position, leaf): (Position, Bytes)| {
        (position, AuditLeaf::decode(leaf).map_err(|_| Error::Damaged("an event")))
    };
    let found: Vec<_> = found.into_iter().map(decode).collect();
    opener.learn(tx, found.iter().filter_map(|(_, leaf)| leaf.as_ref().ok())).await?;
    let open = |(position, leaf): (Position, Result<AuditLeaf, Error>)| {
        (position, leaf.map(|leaf| opener.event(&leaf)))
    };
    Ok(Tail { events: found.into_iter().map(open).collect(), more })
}

/// Reads one event by its place.
///
/// # Errors
/// The store's, or [`Error::Damaged`].
pub async fn find(
    tx: &Transaction,
    tenant: TenantId,
    position: &Position,
) -> Result<Option<AuditEvent>, Error> {
    let mut opener = Opener::load(tx, tenant).await?;
    let stored = read_at(tx, tenant, &[*position]).await?.pop().flatten();
    opener.learn(tx, stored.iter().map(|stored| &stored.leaf)).await?;
    Ok(stored.map(|stored| opener.event(&stored.leaf)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aesp_proto::{
        Entropy, SystemClock,
        v1::{EventType, Outcome},
    };
    use aesp_storage::Store;

    use super::*;
    use crate::{Event, Options, Recorder};

    async fn read_all(store: &Store, from: ReadFrom, limit: usize, bytes: usize) -> (Vec<String>, usize) {
        let (mut from, mut actions, mut reads) = (from, Vec::new(), 0);
        loop {
            let tenant = TenantId::PLATFORM;
            let tail = store.run(move |tx| Box::pin(tail(tx, tenant, from, limit, bytes))).await.unwrap();
            reads += 1;
            for (position, event) in tail.events {
                actions.push(event.unwrap().action);
                from = ReadFrom::After(position);
            }
            if !tail.more {
                return (actions, reads);
            }
        }
    }

    #[tokio::test]
    async fn a_log_is_read_on_from_any_place_in_any_portions() {
        let store = Store::for_tests();
        let entropy = Entropy::from_seed(7);
        let (recorder, duty) =
            Recorder::start(store.clone(), Arc::new(SystemClock), entropy.clone(), Options::default())
                .await
                .unwrap();
        let names: Vec<String> = (0..700).map(|n| format!("action.{n}")).collect();
        for names in names.chunks(100) {
            let event = |name: &String| {
                let mut event =
                    Event::new(&entropy, TenantId::PLATFORM, EventType::SystemEvent, name, Outcome::Success);
                event.details.reason = "sealed".into();
                event
            };
            recorder.append(names.iter().map(event).collect()).await.unwrap();
        }
        duty.stop().await.unwrap();
        assert_eq!(read_all(&store, ReadFrom::Beginning, 1_000, usize::MAX).await, (names.clone(), 1));
        assert_eq!(read_all(&store, ReadFrom::Beginning, 100, usize::MAX).await, (names.clone(), 8));
        let (all, reads) = read_all(&store, ReadFrom::Beginning, 1_000, 1).await;
        assert!(all == names && reads == 3, "a portion ends when it has so many bytes: {reads}");
        assert_eq!(read_all(&store, ReadFrom::About(Timestamp(0)), 1_000, usize::MAX).await.0, names);
        assert_eq!(read_all(&store, ReadFrom::About(Timestamp(i64::MAX)), 9, usize::MAX).await.0.len(), 0);
    }
}
