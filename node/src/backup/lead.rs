use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use aesp_backup::Error as ArchiveError;
use aesp_proto::{
    TenantId, chain,
    v1::{EventType, Outcome},
};

use super::{
    DrillRow, Drilled, Error, Watched,
    due::{drill_due, drill_trouble},
    rows,
};
use crate::services::Context;

/// How often it is looked whose turn it is, what is due, and how old the end of the backups is.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// After how long what failed is tried again.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// The leading of backups, whatever the store: whose turn it is, what is told of it, when drills are due.
#[derive(Clone)]
pub(super) struct Lead {
    pub(super) watched: Arc<Watched>,
    pub(super) context: Context,
    /// How old the end of the backups may be before somebody is told.
    pub(super) late: Duration,
}

impl Lead {
    /// Runs `work`, again and again, whenever this node owns the platform's shard.
    pub(super) async fn run(&self, work: impl Fn() -> BoxFuture<'static, Error>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.leads() {
                continue;
            }
            self.watched.note(|seen| seen.leads = true);
            self.watched.metrics.leader.set(1);
            tokio::select! {
                () = self.while_leading() => {}
                failed = work() => match failed {
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
            let (now, every) = (self.context.clock.now(), self.watched.section.drill());
            let mut late = None;
            self.watched.note(|seen| {
                seen.drill_trouble = drill_trouble(seen.drill.as_ref(), every, now);
                let age = seen.restorable_to.map(|(to, _)| now.since(to));
                late = age.filter(|age| *age > self.late);
                let metrics = &self.watched.metrics;
                metrics.age_seconds.set(age.unwrap_or_default().as_secs_f64());
                metrics.drill_overdue.set(seen.drill_trouble.is_some().into());
            });
            if let Some(age) = late {
                let text = format!("the archive ends {} s ago", age.as_secs());
                self.watched.note(|seen| {
                    seen.trouble.entry("age").or_insert(text);
                });
            } else {
                self.watched.note(|seen| drop(seen.trouble.remove("age")));
            }
        }
    }

    fn step_down(&self) {
        let metrics = &self.watched.metrics;
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
        self.watched.note(|seen| {
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

    /// Makes drills when they are due and `ready` says that there is something to restore.
    pub(super) async fn drills(
        &self,
        ready: impl Fn() -> bool,
        drill: impl Fn() -> BoxFuture<'static, Drilled>,
    ) -> Error {
        loop {
            match self.context.store.run(|tx| Box::pin(rows::last_drill(tx))).await {
                Ok(last) => self.drill_if_due(last, &ready, &drill).await,
                Err(error) => self.failed("drill", &error.into()).await,
            }
            sleep(LOOK).await;
        }
    }

    async fn drill_if_due(
        &self,
        last: Option<DrillRow>,
        ready: impl Fn() -> bool,
        drill: impl Fn() -> BoxFuture<'static, Drilled>,
    ) {
        let metrics = &self.watched.metrics;
        if let Some(row) = &last {
            metrics.drill_passed.set(row.passed.into());
            metrics.drill_timestamp_seconds.set(row.at.0 as f64 / 1_000.0);
            metrics.drill_rpo_seconds.set(row.rpo_ms as f64 / 1_000.0);
            metrics.drill_rto_seconds.set(row.rto_ms as f64 / 1_000.0);
        }
        let due = drill_due(last.as_ref(), self.watched.section.drill(), self.context.clock.now());
        self.watched.note(|seen| seen.drill = last);
        if !due || !ready() {
            return;
        }
        let drilled = drill().await;
        if !drilled.row.passed {
            metrics.failures.with_label_values(&["drill"]).inc();
            warn!(reason = %drilled.row.reason, "the recovery drill failed");
        }
        if let Err(error) = drilled.record(&self.context.recorder, &self.context.entropy).await {
            warn!(%error, "the recovery drill is not on record; it is made again");
        }
    }

    /// Notes a failure, and puts it on record when it is a new one.
    pub(super) async fn failed(&self, what: &'static str, error: &Error) {
        self.watched.metrics.failures.with_label_values(&[what]).inc();
        let text = chain(error);
        let mut new = false;
        self.watched.note(|seen| new = seen.trouble.insert(what, text.clone()).is_none());
        if new {
            warn!(what, error = %text, "backups fail; tried again until they succeed");
            self.tell("backup.failed", Outcome::Failure, &text, &[("what", what.to_owned())]).await;
        }
    }

    /// Notes that something works, and puts it on record if it had failed.
    pub(super) async fn well(&self, what: &'static str) {
        let mut failed = false;
        self.watched.note(|seen| failed = seen.trouble.remove(what).is_some());
        if failed {
            info!(what, "backups work again");
            self.tell("backup.recovered", Outcome::Success, "", &[("what", what.to_owned())]).await;
        }
    }

    pub(super) async fn tell(&self, action: &str, outcome: Outcome, reason: &str, fields: &[(&str, String)]) {
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
