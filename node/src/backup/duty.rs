use std::{sync::Arc, time::Duration};

use aesp_backup::{
    Archive, Error as ArchiveError, Retention, Shipped, Shipper, SnapshotInfo, SnapshotOptions, SnapshotStep,
    Snapshotter, Writer,
};
use aesp_proto::v1::Outcome;
use futures::FutureExt;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Backups, Error,
    drill::drill,
    due::Snapshots,
    lead::{LOOK, Lead, PAUSE},
    live::Live,
    rows,
};
use crate::services::Context;

/// The rows that one chunk of a snapshot takes.
const CHUNK_BYTES: usize = 4 << 20;
/// Snapshots that are kept, however old.
const LEAST_SNAPSHOTS: usize = 2;
/// How much older than a segment the archive's end may be before somebody is told.
const LATE: Duration = Duration::from_secs(15);

/// Takes backups whenever this node owns the platform's shard, until `closing`. The archive lets one writer in: one that was
/// overtaken is refused there, whatever it believes.
pub(crate) fn start(context: &Context, closing: CancellationToken) {
    let Backups::Live(live) = &context.backups else { return };
    let late = live.watched.section.segment() + LATE;
    let lead = Lead { watched: Arc::clone(&live.watched), context: context.clone(), late };
    let duty = Duty { live: Arc::clone(live), lead };
    tokio::spawn(async move {
        let work = || {
            let duty = duty.clone();
            async move { duty.work().await }.boxed()
        };
        closing.run_until_cancelled(duty.lead.run(work)).await
    });
}

#[derive(Clone)]
struct Duty {
    live: Arc<Live>,
    lead: Lead,
}

impl Duty {
    /// Ships, takes snapshots and makes drills until one of them can't go on.
    async fn work(&self) -> Error {
        let begun = async {
            let archive = self.live.archive(self.lead.context.cluster.id()).await?.clone();
            let limit = u64::from(self.live.watched.section.journal_max_mib) << 20;
            let writer = archive.claim(&self.live.engine, limit).await?;
            Ok::<_, Error>((archive, writer))
        };
        let (archive, writer) = match begun.await {
            Ok(begun) => begun,
            Err(error) => return error,
        };
        self.lead.well("archive").await;
        // Tasks of their own, so that a snapshot or a drill does not hold up the journal. They end with the set.
        let mut working = JoinSet::new();
        working.spawn(self.clone().ship(Shipper::new(writer.clone())));
        working.spawn(self.clone().snapshots(archive, writer));
        working.spawn(self.clone().drills());
        match working.join_next().await {
            Some(Ok(failed)) => failed,
            Some(Err(crashed)) => ArchiveError::Unavailable(crashed.to_string().into()).into(),
            None => unreachable!("three tasks were spawned"),
        }
    }

    async fn ship(self, mut shipper: Shipper) -> Error {
        let mut ticks = interval(self.live.watched.section.segment());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match shipper.step().await {
                Ok(shipped) => {
                    self.shipped(shipped);
                    self.lead.well("ship").await;
                }
                Err(error) if error.is_retryable() => self.lead.failed("ship", &error.into()).await,
                Err(error) => return error.into(),
            }
        }
    }

    fn shipped(&self, shipped: Shipped) {
        let metrics = &self.live.watched.metrics;
        metrics.segments.inc_by(shipped.segments);
        metrics.shipped_bytes.inc_by(shipped.bytes);
        metrics.journal_bytes.set(i64::try_from(shipped.journal_bytes).unwrap_or(i64::MAX));
        self.live.watched.note(|seen| {
            seen.restorable_to = Some((shipped.restorable_to, shipped.up_to.0));
            seen.journal_bytes = shipped.journal_bytes;
        });
    }

    async fn snapshots(self, archive: Archive, writer: Writer) -> Error {
        let mut known = None;
        loop {
            match self.snapshot_if_due(&archive, &writer, &mut known).await {
                Ok(()) => self.lead.well("snapshot").await,
                Err(Error::Archive(error)) if error.is_retryable() => {
                    self.live.watched.note(|seen| seen.snapshot_running = false);
                    self.lead.failed("snapshot", &error.into()).await;
                    sleep(PAUSE).await;
                }
                Err(Error::Store(error)) => self.lead.failed("snapshot", &error.into()).await,
                Err(error) => return error,
            }
            sleep(LOOK).await;
        }
    }

    async fn snapshot_if_due(
        &self,
        archive: &Archive,
        writer: &Writer,
        known: &mut Option<Snapshots>,
    ) -> Result<(), Error> {
        let order = self.lead.context.store.run(|tx| Box::pin(rows::order(tx))).await?;
        let snapshots = match *known {
            Some(snapshots) => snapshots,
            None => {
                let info = archive.info().await?;
                self.live.watched.saw(info.snapshots.last().cloned().map(Into::into));
                Snapshots::of(writer.line(), &info.snapshots, order)
            }
        };
        *known = Some(snapshots);
        if !snapshots.due(self.live.watched.section.snapshot(), order.number, self.lead.context.clock.now()) {
            return Ok(());
        }
        let complete = self.snapshot(writer).await?;
        *known = Some(Snapshots { newest: Some(complete.began), orders: order.number });
        self.retain(archive).await
    }

    async fn snapshot(&self, writer: &Writer) -> Result<SnapshotInfo, Error> {
        self.live.watched.note(|seen| seen.snapshot_running = true);
        let options = SnapshotOptions {
            chunk_bytes: CHUNK_BYTES,
            bytes_per_second: u64::from(self.live.watched.section.throttle_mib_per_second) << 20,
        };
        let mut snapshotter = Snapshotter::resume(writer.clone(), options).await?;
        let complete = loop {
            match snapshotter.step().await? {
                SnapshotStep::Chunk { pause, .. } => sleep(pause).await,
                SnapshotStep::Complete(info) => break info,
            }
        };
        self.live.watched.saw(Some(complete.clone().into()));
        self.live.watched.note(|seen| seen.snapshot_running = false);
        let fields = [
            ("snapshot", complete.id.to_string()),
            ("rows", complete.rows.to_string()),
            ("bytes", complete.bytes.to_string()),
            ("chunks", complete.chunks.to_string()),
        ];
        self.lead.tell("backup.snapshot", Outcome::Success, "", &fields).await;
        Ok(complete)
    }

    async fn retain(&self, archive: &Archive) -> Result<(), Error> {
        let policy = Retention { keep: self.live.watched.section.keep(), least_snapshots: LEAST_SNAPSHOTS };
        let removed = archive.retain(&policy, self.lead.context.clock.now()).await?;
        if removed.objects == 0 {
            return Ok(());
        }
        let fields = [
            ("snapshots", removed.snapshots.to_string()),
            ("segments", removed.segments.to_string()),
            ("objects", removed.objects.to_string()),
            ("locked", removed.locked.to_string()),
        ];
        self.lead.tell("backup.retain", Outcome::Success, "", &fields).await;
        Ok(())
    }

    async fn drills(self) -> Error {
        // Before there is a snapshot whose journal is shipped there is nothing to restore.
        let ready = || {
            let seen = self.live.watched.seen.borrow();
            let to = seen.restorable_to.map(|(_, version)| version);
            seen.snapshot.as_ref().is_some_and(|snapshot| to.is_some_and(|to| snapshot.from <= to))
        };
        let make = || {
            let (live, context) = (Arc::clone(&self.live), self.lead.context.clone());
            async move {
                let (clock, scratch) = (Arc::clone(&context.clock), &live.watched.section.scratch_dir);
                drill(&live.place, scratch, live.options.clone(), clock, &context.entropy, &mut |_| {}).await
            }
            .boxed()
        };
        self.lead.drills(ready, make).await
    }
}
