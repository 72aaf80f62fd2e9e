use std::{fs, path::Path, sync::Arc, time::Duration};

use aesp_backup::{Archive, Point, Scope};
use aesp_proto::{Clock, Entropy, TenantId, Timestamp, chain, v1};
use aesp_storage::LmdbOptions;
use tokio::time::Instant;

use super::{
    DrillRow, Error, Place, Wanted,
    logs::Logs,
    restore::{Step, restore},
};

/// What a drill found.
pub(crate) struct Drilled {
    pub(crate) row: DrillRow,
    /// What was restored and is in order; nothing for a drill that failed.
    pub(crate) found: Option<Found>,
    /// Why it failed.
    pub(crate) error: Option<Error>,
}

/// What a drill restored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) logs: Logs,
}

/// Restores the end of the archive into a scratch folder, checks everything there is to check, and removes the folder. The
/// archive's objects, their chain and the restored rows are compared with the manifests' digests; every tenant's audit log is
/// verified.
pub(crate) async fn drill(
    place: &Place,
    scratch: &Path,
    options: LmdbOptions,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    told: &mut (dyn FnMut(Step) + Send),
) -> Drilled {
    let (at, started) = (clock.now(), Instant::now());
    let mut reached = Reached::default();
    let outcome = attempt(place, scratch, options, clock, entropy, (at, &mut reached), told).await;
    Drilled::ended((at, started), reached, outcome)
}

async fn attempt(
    place: &Place,
    scratch: &Path,
    options: LmdbOptions,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    (at, reached): (Timestamp, &mut Reached),
    told: &mut (dyn FnMut(Step) + Send),
) -> Result<Found, Error> {
    let archive = Archive::find(&place.target, None, place.key.clone()).await?;
    if let Some(line) = archive.info().await?.lines.last() {
        reached.end = Some(at.since(line.to_time));
    }
    let folder = |source| Error::Folder { path: scratch.to_owned(), source };
    fs::create_dir_all(scratch).map_err(folder)?;
    // One that was cut off left its folder behind; two at once don't meet.
    let scratch = tempfile::Builder::new().prefix("drill-").tempdir_in(scratch).map_err(folder)?;
    let into = scratch.path().join("store");
    let wanted = Wanted { at: Point::Latest, scope: Scope::Everything, into: &into, options };
    let outcome = restore(place, wanted, clock, entropy, told).await?;
    reached.version = outcome.restored.version.0;
    Ok(Found { rows: outcome.restored.rows, bytes: outcome.restored.bytes, logs: outcome.logs })
}

/// How far a drill came.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// How old the end of the backup was; nothing if it was not found.
    pub(super) end: Option<Duration>,
    pub(super) version: u64,
}

impl Drilled {
    /// Judges a drill that began at these times and ends now.
    pub(super) fn ended(
        (at, started): (Timestamp, Instant),
        reached: Reached,
        outcome: Result<Found, Error>,
    ) -> Self {
        let whole_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (found, error) = match outcome {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error)),
        };
        let row = DrillRow {
            at,
            passed: error.is_none(),
            reason: error.as_ref().map(|error| chain(error)).unwrap_or_default(),
            rpo_ms: reached.end.map_or(0, whole_ms),
            rto_ms: whole_ms(started.elapsed()),
            version: reached.version,
        };
        Self { row, found, error }
    }

    /// Returns the event of the platform's log.
    pub(crate) fn event(&self, entropy: &Entropy) -> aesp_audit::Event {
        let outcome = if self.row.passed { v1::Outcome::Success } else { v1::Outcome::Failure };
        let kind = v1::EventType::SystemEvent;
        let mut event = aesp_audit::Event::new(entropy, TenantId::PLATFORM, kind, "backup.drill", outcome);
        event.details.resource = "store".into();
        event.details.reason.clone_from(&self.row.reason);
        let mut tell = |name: &str, value: u64| event.details.fields.push((name.into(), value.to_string()));
        tell("rpo_ms", self.row.rpo_ms);
        tell("rto_ms", self.row.rto_ms);
        tell("version", self.row.version);
        if let Some(found) = self.found {
            tell("rows", found.rows);
            tell("bytes", found.bytes);
            tell("tenants", found.logs.tenants);
            tell("events", found.logs.events);
        }
        event
    }

    /// Puts the result on record, where all nodes find it.
    ///
    /// # Errors
    /// The audit log's or the store's.
    pub(crate) async fn record(
        &self,
        recorder: &aesp_audit::Recorder,
        entropy: &Entropy,
    ) -> Result<(), aesp_proto::Error> {
        let (row, event) = (self.row.clone(), self.event(entropy));
        recorder
            .record(move |tx| {
                let (row, event) = (row.clone(), event.clone());
                Box::pin(async move {
                    row.keep(tx).await?;
                    Ok(((), vec![event]))
                })
            })
            .await
    }
}
