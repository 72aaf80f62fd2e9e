//! Moving the oldest events of a tenant's log to an object store, from where they are read as before.

use std::{sync::Arc, time::Duration};

use aesp_audit::shelf::{self, Objects, Packed, Shelf};
use aesp_backup::Files;
use aesp_cluster::Fence;
use aesp_proto::{Clock, TenantId, Timestamp};
use aesp_storage::{Store, Transaction};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;

use crate::{Error, Metrics};

/// How long a bundle may take to be read: less than a transaction lives. What takes longer is told and asked for again.
const READ_WITHIN: Duration = Duration::from_secs(4);

/// An object store with the bundles of the tenants' logs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    files: Arc<Files>,
    after: Duration,
}

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bundles.
    pub bundles: u64,
    /// Events in them.
    pub events: u64,
}

struct Read(Arc<Files>);

#[async_trait]
impl Objects for Read {
    async fn read(&self, name: &str) -> Result<Bytes, String> {
        match timeout(READ_WITHIN, self.0.read(name)).await {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(error)) => Err(format!("can't be read: {error}")),
            Err(_) => Err(format!("was not there within {} s", READ_WITHIN.as_secs())),
        }
    }
}

/// Returns what a store reads bundles with; to be attached to it before anybody reads.
#[must_use]
pub fn shelf(archive: &Archive) -> Shelf {
    Shelf::new(Arc::new(Read(Arc::clone(&archive.files))))
}

impl Archive {
    /// Opens the archive, to which events older than `after` are moved.
    #[must_use]
    pub fn new(files: Files, after: Duration) -> Self {
        Self { files: Arc::new(files), after }
    }

    /// Moves the tenant's next bundle, if its events are old enough. The rows leave the store only after the object was read back; whoever
    /// dies between leaves an object that the next one finds to be right.
    ///
    /// # Errors
    /// The store's or the object store's; [`Error::Taken`].
    pub async fn step(
        &self,
        store: &Store,
        tenant: TenantId,
        clock: &dyn Clock,
        fence: Option<Fence>,
    ) -> Result<Option<Moved>, Error> {
        let now = clock.now();
        let before =
            Timestamp(now.0.saturating_sub(i64::try_from(self.after.as_millis()).unwrap_or(i64::MAX)));
        let packed = store.run(move |tx| Box::pin(shelf::pack(tx, tenant, before, now))).await?;
        let Some(packed) = packed.map(Arc::new) else { return Ok(None) };
        let name = &packed.bundle.object;
        let written = self.files.create(name, packed.object.clone()).await;
        if !written.map_err(|error| Error::Objects(Arc::new(error)))? {
            return Err(Error::Taken(name.clone()));
        }
        let settled = store.run(|tx| Box::pin(settle(tx, tenant, Arc::clone(&packed), fence)));
        let events = packed.bundle.events;
        Ok(settled.await?.then_some(Moved { bundles: 1, events }))
    }

    /// Moves bundles until none is old enough, or the time is over; returns what was moved.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub async fn run(
        &self,
        store: &Store,
        tenant: TenantId,
        clock: &dyn Clock,
        fence: Option<Fence>,
        metrics: &Metrics,
        within: Duration,
    ) -> Result<Moved, Error> {
        let began = tokio::time::Instant::now();
        let mut moved = Moved::default();
        while began.elapsed() < within
            && let Some(step) = self.step(store, tenant, clock, fence).await?
        {
            metrics.archived.inc_by(step.events);
            moved = Moved { bundles: moved.bundles + step.bundles, events: moved.events + step.events };
        }
        Ok(moved)
    }
}

async fn settle(
    tx: &Transaction,
    tenant: TenantId,
    packed: Arc<Packed>,
    fence: Option<Fence>,
) -> Result<bool, Error> {
    if let Some(fence) = fence {
        fence.check(tx).await?;
    }
    Ok(shelf::settle(tx, tenant, &packed).await?)
}
