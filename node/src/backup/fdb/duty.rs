use std::{ffi::OsStr, sync::Arc, time::Duration};

use aesp_proto::{Timestamp, v1::Outcome};
use futures::FutureExt;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Backups, Error, lead::Lead, rows},
    agents::Agents,
    drill,
    live::{FdbLive, moment, taken},
    place::Container,
    report::Status,
    times::{self, Mark},
};
use crate::services::Context;

/// How often the cluster is asked how its backup does. Each time a program connects to it.
const ASKED: Duration = Duration::from_secs(5);
/// How often it is written down which version the cluster is at.
const MARKED: Duration = Duration::from_secs(10);
/// How often what is older than it must be is removed.
const EXPIRED: Duration = Duration::from_secs(3_600);
/// How old the end of the backup may be before somebody is told. Agents write the log of some seconds at once.
const LATE: Duration = Duration::from_secs(60);

/// Looks after FoundationDB's backup of this store whenever this node owns the platform's shard, until `closing`. The backup is
/// the cluster's: it goes on while nobody looks after it, as long as some agent runs.
pub(crate) fn start(context: &Context, closing: CancellationToken) {
    let Backups::Fdb(live) = &context.backups else { return };
    let lead = Lead { watched: Arc::clone(&live.watched), context: context.clone(), late: LATE };
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
    live: Arc<FdbLive>,
    lead: Lead,
}

/// What was done and seen before.
#[derive(Default)]
struct Known {
    /// The orders of snapshots that were passed on; nothing before the first look.
    orders: Option<u64>,
    /// The end of the last snapshot.
    snapshot: Option<u64>,
    marked: Option<Instant>,
    expired: Option<Instant>,
}

impl Duty {
    async fn work(&self) -> Error {
        let count = self.live.watched.section.fdb.agents;
        let _agents = match Agents::start(&self.live.place.tools, &self.live.place.cluster_file, count) {
            Ok(agents) => agents,
            Err(error) => return error,
        };
        self.lead.well("archive").await;
        let mut working = JoinSet::new();
        working.spawn(self.clone().watch());
        working.spawn(self.clone().drills());
        match working.join_next().await {
            Some(Ok(failed)) => failed,
            Some(Err(crashed)) => Error::Crashed(crashed.to_string()),
            None => unreachable!("two tasks were spawned"),
        }
    }

    async fn watch(self) -> Error {
        let mut known = Known::default();
        loop {
            match self.step(&mut known).await {
                Ok(()) => self.lead.well("ship").await,
                Err(error) => self.lead.failed("ship", &error).await,
            }
            sleep(ASKED).await;
        }
    }

    async fn step(&self, known: &mut Known) -> Result<(), Error> {
        if known.marked.is_none_or(|at| at.elapsed() >= MARKED) {
            self.mark().await?;
            known.marked = Some(Instant::now());
        }
        let mut status = self.live.status().await?;
        if !status.status.running {
            status = self.begin().await?;
        }
        if status.backup_agents_paused {
            return Err(Error::Paused);
        }
        let container = self.live.running(&status)?;
        self.follow(known, &status, &container).await?;
        self.pass_on(known, &status).await?;
        if known.expired.is_none_or(|at| at.elapsed() >= EXPIRED) {
            self.expire(&container).await?;
            known.expired = Some(Instant::now());
        }
        Ok(())
    }

    /// Begins a backup, and returns how it does.
    async fn begin(&self) -> Result<Status, Error> {
        let (place, section) = (&self.live.place, &self.live.watched.section);
        let (url, tag) = (place.begin_at(self.lead.context.clock.now()), place.tag());
        let (every, keys) = (section.snapshot().as_secs().to_string(), place.keys());
        let begun = place.tools.backup([
            OsStr::new("start"),
            OsStr::new("-C"),
            place.cluster_file.as_os_str(),
            OsStr::new("-t"),
            tag.as_ref(),
            OsStr::new("-d"),
            url.as_ref(),
            OsStr::new("-z"),
            OsStr::new("-s"),
            every.as_ref(),
            OsStr::new("-k"),
            keys.as_ref(),
        ]);
        let begun = begun.await;
        let status = self.live.status().await?;
        // It complains also when it has begun and no agent was there yet.
        match begun {
            Err(error) if !status.status.running => return Err(error),
            _ => {}
        }
        let fields = [("url", url), ("snapshot_seconds", every)];
        self.lead.tell("backup.begin", Outcome::Success, "", &fields).await;
        Ok(status)
    }

    /// Notes how far the backup is, and that a snapshot was completed.
    async fn follow(&self, known: &mut Known, status: &Status, container: &Container) -> Result<(), Error> {
        let now = self.lead.context.clock.now();
        let end = status.latest_restorable_point;
        self.live.watched.note(|seen| {
            seen.restorable_to = end.map(|end| (moment(end, now), end.version));
            seen.snapshot_running =
                status.current_snapshot.as_ref().is_some_and(|running| running.begin.is_some());
        });
        let completed = status.latest_snapshot_end.map(|end| end.version);
        if completed.is_none() || completed == known.snapshot {
            return Ok(());
        }
        let described = self.live.place.describe(container).await?;
        let Some(snapshot) = taken(container, &described, end, now) else { return Ok(()) };
        if known.snapshot.is_some() {
            let fields = [("snapshot", snapshot.id.clone()), ("bytes", snapshot.bytes.to_string())];
            self.lead.tell("backup.snapshot", Outcome::Success, "", &fields).await;
        }
        self.live.watched.saw(Some(snapshot));
        known.snapshot = completed;
        Ok(())
    }

    /// Passes on what the section and operators want of the snapshots.
    async fn pass_on(&self, known: &mut Known, status: &Status) -> Result<(), Error> {
        let every = self.live.watched.section.snapshot().as_secs();
        if status.snapshot_interval_seconds.is_some_and(|found| found != every) {
            self.modify("-s", &every.to_string()).await?;
        }
        let order = self.lead.context.store.run(|tx| Box::pin(rows::order(tx))).await?;
        // What came while nobody looked is passed on once more, unless a snapshot was begun since.
        let passed = *known.orders.get_or_insert_with(|| {
            let seen = self.live.watched.seen.borrow();
            let fulfilled = seen.snapshot.as_ref().is_some_and(|snapshot| order.at <= snapshot.began);
            order.number - u64::from(order.number > 0 && !fulfilled)
        });
        if passed != order.number {
            // The snapshot that is being taken is ended as fast as it can be.
            self.modify("--active-snapshot-interval", "0").await?;
            known.orders = Some(order.number);
        }
        Ok(())
    }

    async fn modify(&self, what: &str, value: &str) -> Result<(), Error> {
        let (place, tag) = (&self.live.place, self.live.place.tag());
        let arguments: [&OsStr; 7] = [
            "modify".as_ref(),
            "-C".as_ref(),
            place.cluster_file.as_ref(),
            "-t".as_ref(),
            tag.as_ref(),
            what.as_ref(),
            value.as_ref(),
        ];
        place.tools.backup(arguments).await.map(drop)
    }

    /// Removes what is not needed to go back for as long as is wanted.
    async fn expire(&self, container: &Container) -> Result<(), Error> {
        let (place, days) = (&self.live.place, self.live.watched.section.keep_days.to_string());
        let arguments: [&OsStr; 7] = [
            "expire".as_ref(),
            "-C".as_ref(),
            place.cluster_file.as_ref(),
            "-d".as_ref(),
            container.url.as_ref(),
            "--delete-before-days".as_ref(),
            days.as_ref(),
        ];
        match place.tools.backup(arguments).await {
            Ok(_) => Ok(()),
            // The backup is younger than that, or its last snapshot before then is still needed.
            Err(Error::Tool { said, .. }) if said.contains("would be unsafe") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes down which version the cluster is at.
    async fn mark(&self) -> Result<(), Error> {
        let (clock, section) = (&self.lead.context.clock, &self.live.watched.section);
        let version = self.live.version().await?;
        // After the read version was given out: whatever is in it was committed before now.
        let now = clock.now();
        let kept = section.keep() + 2 * section.snapshot();
        let oldest = Timestamp(now.0.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)));
        let mark = Mark(now, version);
        let written = self.lead.context.store.run(move |tx| Box::pin(times::mark(tx, mark, oldest)));
        Ok(written.await?)
    }

    async fn drills(self) -> Error {
        let ready = || self.live.watched.seen.borrow().restorable_to.is_some();
        let make = || {
            let (live, context) = (Arc::clone(&self.live), self.lead.context.clone());
            async move {
                let (clock, provider) = (Arc::clone(&context.clock), Arc::clone(&live.provider));
                drill(&live.config, provider, clock, &context.entropy, &mut |_| {}).await
            }
            .boxed()
        };
        self.lead.drills(ready, make).await
    }
}
