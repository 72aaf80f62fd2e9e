use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use aesp_audit::feed::{self, Cursor, Since};
use aesp_cluster::Ownership;
use aesp_proto::{Clock, ShardId, TenantId};
use aesp_storage::{Store, shard_of};
use futures::FutureExt;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    Error, Follower, Metrics,
    agenda::{Agenda, Ended},
    shards::Shards,
};

/// Bounds of the duty. The default is right but for tests.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often the feed is read when this process commits nothing.
    pub look: Duration,
    /// The shortest time between two looks.
    pub pause: Duration,
    /// Tenants that one follower works at, at the same time.
    pub at_once: usize,
    /// How long one step may take.
    pub step: Duration,
    /// How long rows of the feed are kept.
    pub keep: Duration,
    /// How often older ones are cleared, by the home of the platform.
    pub trim: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            look: Duration::from_millis(200),
            pause: Duration::from_millis(20),
            at_once: 16,
            step: Duration::from_secs(30),
            keep: Duration::from_secs(600),
            trim: Duration::from_secs(60),
        }
    }
}

/// Commits of the feed that one transaction reads.
const FEED_ROWS: usize = 500;
/// Tenants that one transaction finds.
const TENANTS: usize = 256;

/// The duty that has the followers look where there is news, until it is told to close.
pub struct Following {
    store: Store,
    ownership: Ownership,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    options: Options,
    followers: Vec<(Arc<dyn Follower>, Agenda, usize)>,
    shards: Shards,
    /// How far the feed is read; not at all before the first look.
    cursor: Option<Cursor>,
    steps: JoinSet<(usize, TenantId, Ended)>,
    trimmed: Option<Instant>,
    /// Whether the last look failed: it is told once.
    blind: bool,
}

impl Following {
    /// Begins, until `closing`; `commits` hears of the commits of this process.
    pub fn start(
        store: Store,
        ownership: Ownership,
        commits: watch::Receiver<()>,
        clock: Arc<dyn Clock>,
        followers: Vec<Arc<dyn Follower>>,
        metrics: Metrics,
        options: Options,
        closing: CancellationToken,
    ) {
        let begin = move || Self {
            store: store.clone(),
            ownership: ownership.clone(),
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
            options,
            followers: followers.iter().map(|one| (Arc::clone(one), Agenda::default(), 0)).collect(),
            shards: Shards::default(),
            cursor: None,
            steps: JoinSet::new(),
            trimmed: None,
            blind: false,
        };
        tokio::spawn(closing.run_until_cancelled_owned(async move {
            let mut commits = commits;
            // After a panic it begins anew, as on another node.
            while let Err(panic) = AssertUnwindSafe(begin().run(&mut commits)).catch_unwind().await {
                error!(
                    panic = text(panic.as_ref()),
                    "the duty behind the audit logs panicked; it begins anew"
                );
                tokio::time::sleep(options.look).await;
            }
        }));
    }

    async fn run(mut self, commits: &mut watch::Receiver<()>) {
        let mut looked: Option<Instant> = None;
        let mut told = true;
        loop {
            let now = Instant::now();
            if looked.is_none_or(|at| now >= at + self.options.look || told && now >= at + self.options.pause)
            {
                commits.mark_unchanged();
                told = false;
                self.look().await;
                looked = Some(Instant::now());
            }
            self.begin_steps();
            let since = looked.unwrap_or(now);
            let look = since + if told { self.options.pause } else { self.options.look };
            let wake = self.next_turn().map_or(look, |turn| turn.min(look));
            tokio::select! {
                Some(ended) = self.steps.join_next() => self.ended(ended),
                heard = commits.changed(), if !told => match heard {
                    Ok(()) => told = true,
                    // The recorder is gone; other processes may still commit.
                    Err(_) => sleep_until(wake).await,
                },
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Takes in which shards are held, then what is new: in this order, so that a shard taken meanwhile is looked at whole in
    /// the next look, after its news were passed over in this one.
    async fn look(&mut self) {
        let taken = self.shards.take(&self.ownership);
        let shards = &self.shards;
        for (_, agenda, _) in &mut self.followers {
            agenda.keep(|tenant| shards.contains(shard_of(tenant.as_bytes())));
        }
        let looked = self.read_feed().await;
        let found = match looked {
            Ok(()) if taken.is_empty() => Ok(()),
            Ok(()) => self.find_tenants(&taken).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(()) => self.blind = false,
            Err(error) => {
                taken.iter().for_each(|shard| self.shards.forget(*shard));
                if !std::mem::replace(&mut self.blind, true) {
                    warn!(%error, "the feed of audit commits can't be read; tried again until it can");
                }
            }
        }
        self.trim().await;
        self.show();
    }

    async fn read_feed(&mut self) -> Result<(), Error> {
        loop {
            let Some(after) = self.cursor else {
                // All tenants are looked at after this.
                self.cursor = Some(self.store.run(|tx| Box::pin(feed::end(tx))).await?);
                return Ok(());
            };
            let read = self.store.run(move |tx| Box::pin(feed::since(tx, after, FEED_ROWS)));
            match read.await? {
                Since::News { news, next, more } => {
                    let now = Instant::now();
                    for one in news {
                        if self.shards.contains(shard_of(one.tenant.as_bytes())) {
                            self.news(one.tenant, one.at, now);
                        }
                    }
                    self.cursor = Some(next);
                    if !more {
                        return Ok(());
                    }
                }
                Since::Missed => {
                    // Everything is looked at in the next look, after the end that it finds.
                    self.cursor = None;
                    self.shards.forget_all();
                    return Ok(());
                }
            }
        }
    }

    /// Looks once at every tenant of these shards.
    async fn find_tenants(&mut self, taken: &[ShardId]) -> Result<(), Error> {
        let (mut last, at) = (None, self.clock.now());
        loop {
            let found = self.store.run(move |tx| Box::pin(tx.tenants_with_rows(last, TENANTS))).await?;
            let now = Instant::now();
            for tenant in &found {
                if taken.contains(&shard_of(tenant.as_bytes())) {
                    self.news(*tenant, at, now);
                }
            }
            last = found.last().copied();
            if found.len() < TENANTS {
                return Ok(());
            }
        }
    }

    fn news(&mut self, tenant: TenantId, at: aesp_proto::Timestamp, now: Instant) {
        for (_, agenda, _) in &mut self.followers {
            agenda.news(tenant, at, now);
        }
    }

    fn begin_steps(&mut self) {
        let now = Instant::now();
        for (index, (follower, agenda, running)) in self.followers.iter_mut().enumerate() {
            while *running < self.options.at_once {
                let Some(tenant) = agenda.next(now) else { break };
                *running += 1;
                let (follower, ownership) = (Arc::clone(follower), self.ownership.clone());
                let limit = self.options.step;
                self.metrics.steps.with_label_values(&[follower.name()]).inc();
                self.steps
                    .spawn(async move { (index, tenant, step(&*follower, &ownership, tenant, limit).await) });
            }
        }
    }

    fn ended(&mut self, ended: Result<(usize, TenantId, Ended), tokio::task::JoinError>) {
        // Panics are caught within the task, and nobody aborts it.
        let (index, tenant, ended) = ended.expect("a step ends by itself");
        let (follower, agenda, running) = &mut self.followers[index];
        *running -= 1;
        match ended {
            Ended::Failed => self.metrics.failures.with_label_values(&[follower.name()]).inc(),
            // If the shard comes back, or is still here after all, nothing of it may be missed.
            Ended::Gone => self.shards.forget(shard_of(tenant.as_bytes())),
            Ended::Advanced(_) => {}
        }
        agenda.ended(tenant, ended, Instant::now());
    }

    /// Returns when somebody has a turn who can take it.
    fn next_turn(&self) -> Option<Instant> {
        let free = self.followers.iter().filter(|(.., running)| *running < self.options.at_once);
        free.filter_map(|(_, agenda, _)| agenda.next_at()).min()
    }

    /// Clears what is old from the feed, at the home of the platform.
    async fn trim(&mut self) {
        let now = Instant::now();
        if self.trimmed.is_some_and(|at| now < at + self.options.trim) {
            return;
        }
        let Ok(fence) = self.ownership.fence(TenantId::PLATFORM.as_bytes()) else { return };
        let now_ms = self.clock.now().0;
        let keep = i64::try_from(self.options.keep.as_millis()).unwrap_or(i64::MAX);
        let before = aesp_proto::Timestamp(now_ms.saturating_sub(keep));
        let trim = self.store.run(move |tx| {
            Box::pin(async move {
                fence.check(tx).await?;
                feed::trim(tx, before).await
            })
        });
        match trim.await {
            // There is more: go on at the next look.
            Ok(true) => {}
            Ok(false) => self.trimmed = Some(now),
            Err(error) => {
                self.trimmed = Some(now);
                warn!(%error, "the feed of audit commits was not cleared; tried again later");
            }
        }
    }

    fn show(&self) {
        let now = self.clock.now();
        for (follower, agenda, _) in &self.followers {
            let label = &[follower.name()];
            let lag = agenda.oldest().map(|since| now.since(since)).unwrap_or_default();
            self.metrics.lag_seconds.with_label_values(label).set(lag.as_secs_f64());
            let waiting = i64::try_from(agenda.len()).unwrap_or(i64::MAX);
            self.metrics.waiting.with_label_values(label).set(waiting);
        }
    }
}

async fn step(follower: &dyn Follower, ownership: &Ownership, tenant: TenantId, limit: Duration) -> Ended {
    let Ok(fence) = ownership.fence(tenant.as_bytes()) else { return Ended::Gone };
    let advance = async { follower.advance(tenant, fence).await };
    let name = follower.name();
    match timeout(limit, AssertUnwindSafe(advance).catch_unwind()).await {
        Ok(Ok(Ok(advance))) => Ended::Advanced(advance),
        Ok(Ok(Err(error))) if error.is_fenced() => Ended::Gone,
        Ok(Ok(Err(error))) => {
            warn!(follower = name, %tenant, %error, "a tenant's log was not followed; tried again later");
            Ended::Failed
        }
        Ok(Err(panic)) => {
            error!(follower = name, %tenant, panic = text(panic.as_ref()), "a follower panicked");
            Ended::Failed
        }
        Err(_) => {
            warn!(follower = name, %tenant, "a step behind a tenant's log took too long; tried again later");
            Ended::Failed
        }
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
