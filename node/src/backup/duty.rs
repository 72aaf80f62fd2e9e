use std::{sync::Arc, time::Duration};

use aesp_backup::{
    Archive, Error as ArchiveError, Retention, Shipped, Shipper, SnapshotInfo, SnapshotOptions, SnapshotStep,
    Snapshotter, Writer,
};
use aesp_proto::{
    TenantId,
    v1::{EventType, Outcome},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Backups, DrillRow, Error, Live,
    drill::drill,
    due::{Snapshots, drill_due, drill_trouble},
    rows,
};
use crate::{causes::chain, services::Context};

/// How often it is looked whose turn it is, what is due, and how old the archive's end is.
const LOOK: Duration = Duration::from_secs(1);
/// After how long what failed is tried again.
const PAUSE: Duration = Duration::from_secs(2);
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
    let duty = Duty { live: Arc::clone(live), context: context.clone() };
    tokio::spawn(async move { closing.run_until_cancelled(duty.run()).await });
}

#[derive(Clone)]
struct Duty {
    live: Arc<Live>,
    context: Context,
}

impl Duty {
    async fn run(self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.leads() {
                continue;
            }
            self.live.note(|seen| seen.leads = true);
            self.live.metrics.leader.set(1);
            tokio::select! {
                () = self.while_leading() => {}
                failed = self.lead() => match failed {
                    // The one that took over may be this node's own next attempt, or another node's first.
                    Error::Archive(ArchiveError::Fenced { current }) => {
                        info!(current, "another node takes the backups");
                    }
                    failed => self.failed("archive", &failed).await,
                },
            }
            self.step_down();
            sleep(PAUSE).await;
        }
    }

    fn leads(&self) -> bool {
        self.context.ownership.fence(TenantId::PLATFORM.as_bytes()).is_ok()
    }

    /// Looks after what grows old by itself, for as long as it is this node's turn.
    async fn while_leading(&self) {
        let mut ticks = interval(LOOK);
        while self.leads() {
            ticks.tick().await;
            let (now, every) = (self.context.clock.now(), self.live.section.drill());
            let mut late = None;
            self.live.note(|seen| {
                seen.drill_trouble = drill_trouble(seen.drill.as_ref(), every, now);
                let age = seen.restorable_to.map(|(to, _)| now.since(to));
                late = age.filter(|age| *age > self.live.section.segment() + LATE);
                let metrics = &self.live.metrics;
                metrics.age_seconds.set(age.unwrap_or_default().as_secs_f64());
                metrics.drill_overdue.set(seen.drill_trouble.is_some().into());
            });
            if let Some(age) = late {
                let text = format!("the archive ends {} s ago", age.as_secs());
                self.live.note(|seen| {
                    seen.trouble.entry("age").or_insert(text);
                });
            } else {
                self.live.note(|seen| drop(seen.trouble.remove("age")));
            }
        }
    }

    fn step_down(&self) {
        let metrics = &self.live.metrics;
        metrics.leader.set(0);
        for gauge in [
            &metrics.age_seconds,
            &metrics.snapshot_timestamp_seconds,
            &metrics.drill_timestamp_seconds,
            &metrics.drill_rpo_seconds,
            &metrics.drill_rto_seconds,
        ] {
            gauge.set(0.0);
        }
        for gauge in
            [&metrics.snapshot_bytes, &metrics.journal_bytes, &metrics.drill_passed, &metrics.drill_overdue]
        {
            gauge.set(0);
        }
        self.live.note(|seen| {
            seen.leads = false;
            seen.snapshot_running = false;
            // What this node can't do, the next one may; and if it is this one again, it hears of it again.
            seen.restorable_to = None;
            seen.drill_trouble = None;
            if !self.leads() {
                seen.trouble.clear();
            }
        });
    }

    /// Ships, takes snapshots and makes drills until one of them can't go on.
    async fn lead(&self) -> Error {
        let begun = async {
            let archive = self.live.archive(self.context.cluster.id()).await?.clone();
            let limit = u64::from(self.live.section.journal_max_mib) << 20;
            let writer = archive.claim(&self.live.engine, limit).await?;
            Ok::<_, Error>((archive, writer))
        };
        let (archive, writer) = match begun.await {
            Ok(begun) => begun,
            Err(error) => return error,
        };
        self.well("archive").await;
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
        let mut ticks = interval(self.live.section.segment());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match shipper.step().await {
                Ok(shipped) => {
                    self.shipped(shipped);
                    self.well("ship").await;
                }
                Err(error) if error.is_retryable() => self.failed("ship", &error.into()).await,
                Err(error) => return error.into(),
            }
        }
    }

    fn shipped(&self, shipped: Shipped) {
        let metrics = &self.live.metrics;
        metrics.segments.inc_by(shipped.segments);
        metrics.shipped_bytes.inc_by(shipped.bytes);
        metrics.journal_bytes.set(i64::try_from(shipped.journal_bytes).unwrap_or(i64::MAX));
        self.live.note(|seen| {
            seen.restorable_to = Some((shipped.restorable_to, shipped.up_to.0));
            seen.journal_bytes = shipped.journal_bytes;
        });
    }

    async fn snapshots(self, archive: Archive, writer: Writer) -> Error {
        let mut known = None;
        loop {
            match self.snapshot_if_due(&archive, &writer, &mut known).await {
                Ok(()) => self.well("snapshot").await,
                Err(Error::Archive(error)) if error.is_retryable() => {
                    self.live.note(|seen| seen.snapshot_running = false);
                    self.failed("snapshot", &error.into()).await;
                    sleep(PAUSE).await;
                }
                Err(Error::Store(error)) => self.failed("snapshot", &error.into()).await,
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
        let order = self.context.store.run(|tx| Box::pin(rows::order(tx))).await?;
        let snapshots = match *known {
            Some(snapshots) => snapshots,
            None => {
                let info = archive.info().await?;
                self.saw(info.snapshots.last().cloned());
                Snapshots::of(writer.line(), &info.snapshots, order)
            }
        };
        *known = Some(snapshots);
        if !snapshots.due(self.live.section.snapshot(), order.number, self.context.clock.now()) {
            return Ok(());
        }
        let complete = self.snapshot(writer).await?;
        *known = Some(Snapshots { newest: Some(complete.began), orders: order.number });
        self.retain(archive).await
    }

    async fn snapshot(&self, writer: &Writer) -> Result<SnapshotInfo, Error> {
        self.live.note(|seen| seen.snapshot_running = true);
        let options = SnapshotOptions {
            chunk_bytes: CHUNK_BYTES,
            bytes_per_second: u64::from(self.live.section.throttle_mib_per_second) << 20,
        };
        let mut snapshotter = Snapshotter::resume(writer.clone(), options).await?;
        let complete = loop {
            match snapshotter.step().await? {
                SnapshotStep::Chunk { pause, .. } => sleep(pause).await,
                SnapshotStep::Complete(info) => break info,
            }
        };
        self.saw(Some(complete.clone()));
        self.live.note(|seen| seen.snapshot_running = false);
        let fields = [
            ("snapshot", complete.id.to_string()),
            ("rows", complete.rows.to_string()),
            ("bytes", complete.bytes.to_string()),
            ("chunks", complete.chunks.to_string()),
        ];
        self.tell("backup.snapshot", Outcome::Success, "", &fields).await;
        Ok(complete)
    }

    fn saw(&self, snapshot: Option<SnapshotInfo>) {
        let Some(snapshot) = snapshot else { return };
        let metrics = &self.live.metrics;
        metrics.snapshot_timestamp_seconds.set(snapshot.began.0 as f64 / 1_000.0);
        metrics.snapshot_bytes.set(i64::try_from(snapshot.bytes).unwrap_or(i64::MAX));
        self.live.note(|seen| seen.snapshot = Some(snapshot));
    }

    async fn retain(&self, archive: &Archive) -> Result<(), Error> {
        let policy = Retention { keep: self.live.section.keep(), least_snapshots: LEAST_SNAPSHOTS };
        let removed = archive.retain(&policy, self.context.clock.now()).await?;
        if removed.objects == 0 {
            return Ok(());
        }
        let fields = [
            ("snapshots", removed.snapshots.to_string()),
            ("segments", removed.segments.to_string()),
            ("objects", removed.objects.to_string()),
            ("locked", removed.locked.to_string()),
        ];
        self.tell("backup.retain", Outcome::Success, "", &fields).await;
        Ok(())
    }

    async fn drills(self) -> Error {
        loop {
            match self.context.store.run(|tx| Box::pin(rows::last_drill(tx))).await {
                Ok(last) => self.drill_if_due(last).await,
                Err(error) => self.failed("drill", &error.into()).await,
            }
            sleep(LOOK).await;
        }
    }

    async fn drill_if_due(&self, last: Option<DrillRow>) {
        let metrics = &self.live.metrics;
        if let Some(row) = &last {
            metrics.drill_passed.set(row.passed.into());
            metrics.drill_timestamp_seconds.set(row.at.0 as f64 / 1_000.0);
            metrics.drill_rpo_seconds.set(row.rpo_ms as f64 / 1_000.0);
            metrics.drill_rto_seconds.set(row.rto_ms as f64 / 1_000.0);
        }
        let due = drill_due(last.as_ref(), self.live.section.drill(), self.context.clock.now());
        // Before there is a snapshot whose journal is shipped there is nothing to restore.
        let ready = {
            let seen = self.live.seen.borrow();
            let to = seen.restorable_to.map(|(_, version)| version);
            seen.snapshot.as_ref().is_some_and(|snapshot| to.is_some_and(|to| snapshot.from.0 <= to))
        };
        self.live.note(|seen| seen.drill = last);
        if !due || !ready {
            return;
        }
        let (live, context) = (&self.live, &self.context);
        let clock = Arc::clone(&context.clock);
        let scratch = &live.section.scratch_dir;
        let options = live.options.clone();
        let drilled = drill(&live.place, scratch, options, clock, &context.entropy, &mut |_| {}).await;
        if !drilled.row.passed {
            live.metrics.failures.with_label_values(&["drill"]).inc();
            warn!(reason = %drilled.row.reason, "the recovery drill failed");
        }
        if let Err(error) = drilled.record(&context.recorder, &context.entropy).await {
            warn!(%error, "the recovery drill is not on record; it is made again");
        }
    }

    /// Notes a failure, and puts it on record when it is a new one.
    async fn failed(&self, what: &'static str, error: &Error) {
        self.live.metrics.failures.with_label_values(&[what]).inc();
        let text = chain(error);
        let mut new = false;
        self.live.note(|seen| new = seen.trouble.insert(what, text.clone()).is_none());
        if new {
            warn!(what, error = %text, "backups fail; tried again until they succeed");
            self.tell("backup.failed", Outcome::Failure, &text, &[("what", what.to_owned())]).await;
        }
    }

    /// Notes that something works, and puts it on record if it had failed.
    async fn well(&self, what: &'static str) {
        let mut failed = false;
        self.live.note(|seen| failed = seen.trouble.remove(what).is_some());
        if failed {
            info!(what, "backups work again");
            self.tell("backup.recovered", Outcome::Success, "", &[("what", what.to_owned())]).await;
        }
    }

    async fn tell(&self, action: &str, outcome: Outcome, reason: &str, fields: &[(&str, String)]) {
        let entropy = &self.context.entropy;
        let kind = EventType::SystemEvent;
        let mut event = aesp_audit::Event::new(entropy, TenantId::PLATFORM, kind, action, outcome);
        event.details.resource = "store".into();
        event.details.reason = reason.to_owned();
        event.details.fields =
            fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        if let Err(error) = self.context.recorder.append(vec![event]).await {
            warn!(%error, action, "an event of the backups is not on record");
        }
    }
}
