//! The duty as followers meet it: news of this process and of others, shards that come and go, steps that fail.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aesp_audit::{Event, Query, Recorder, feed, query};
use aesp_cluster::{Fence, Held, Ownership, Shard};
use aesp_follow::{Advance, Error, Follower, Following, Metrics, Options};
use aesp_proto::{
    Entropy, Incarnation, ManualClock, TenantId, Timestamp,
    v1::{EventType, Outcome},
};
use aesp_storage::{Store, shard_of};
use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Notes how many events each tenant's log has.
struct Counts {
    store: Store,
    seen: Mutex<BTreeMap<TenantId, usize>>,
    /// Steps of this tenant that fail before one succeeds.
    fails: Mutex<(TenantId, u32)>,
}

#[async_trait]
impl Follower for Counts {
    fn name(&self) -> &'static str {
        "counts"
    }

    async fn advance(&self, tenant: TenantId, fence: Fence) -> Result<Advance, Error> {
        self.store.run(move |tx| Box::pin(async move { fence.check(tx).await })).await?;
        let fails = {
            let mut fails = self.fails.lock().unwrap();
            let left = if fails.0 == tenant { fails.1 } else { 0 };
            fails.1 -= left.min(1);
            left
        };
        // A panic is a failure like another.
        assert!(fails != 2, "on purpose");
        if fails > 0 {
            return Err(Error::Damaged("on purpose".into()));
        }
        let page = query(&self.store, &Query { limit: 1_000, ..Query::new(tenant) }).await?;
        self.seen.lock().unwrap().insert(tenant, page.events.len());
        Ok(Advance::AtEnd)
    }
}

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    entropy: Entropy,
    ownership: Ownership,
    closing: CancellationToken,
}

impl World {
    async fn new() -> Self {
        let store = Store::for_tests();
        let epochs = store.run(|tx| Box::pin(async move { tx.claim_shards(1).await })).await.unwrap();
        Self {
            store,
            clock: Arc::new(ManualClock::new(Timestamp(1_000_000))),
            entropy: Entropy::from_seed(7),
            ownership: Ownership::all(Incarnation(1), &epochs),
            closing: CancellationToken::new(),
        }
    }

    async fn tenant(&self) -> TenantId {
        let tenant = TenantId::random(&self.entropy);
        let made = self.store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await }));
        made.await.unwrap();
        tenant
    }

    async fn recorder(&self) -> (Recorder, aesp_audit::Duty) {
        let clock = Arc::<ManualClock>::clone(&self.clock);
        let started =
            Recorder::start(self.store.clone(), clock, self.entropy.clone(), aesp_audit::Options::default());
        started.await.unwrap()
    }

    async fn record(&self, recorder: &Recorder, tenant: TenantId) {
        let event = Event::new(&self.entropy, tenant, EventType::SystemEvent, "x", Outcome::Success);
        recorder.append(vec![event]).await.unwrap();
    }

    fn follow(&self, recorder: &Recorder, fails: (TenantId, u32)) -> Arc<Counts> {
        let follower =
            Arc::new(Counts { store: self.store.clone(), seen: Mutex::default(), fails: Mutex::new(fails) });
        Following::start(
            self.store.clone(),
            self.ownership.clone(),
            recorder.commits(),
            Arc::<ManualClock>::clone(&self.clock),
            vec![Arc::<Counts>::clone(&follower)],
            Metrics::register(&prometheus::Registry::new()).unwrap(),
            Options { trim: Duration::from_millis(50), ..Options::default() },
            self.closing.clone(),
        );
        follower
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Waits until the follower has seen so many events of the tenant.
async fn sees(follower: &Counts, tenant: TenantId, events: usize) {
    let seen = || follower.seen.lock().unwrap().get(&tenant).copied();
    let wait = async {
        while seen() != Some(events) {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("{:?}, not {events}", seen()));
}

#[tokio::test]
async fn what_any_process_commits_is_followed() {
    let world = World::new().await;
    let (before, during) = (world.tenant().await, world.tenant().await);
    let (own, _duty) = world.recorder().await;
    let (others, _duty) = world.recorder().await;
    world.record(&own, before).await;
    let follower = world.follow(&own, (before, 0));
    sees(&follower, before, 1).await;
    world.record(&own, during).await;
    sees(&follower, during, 1).await;
    world.record(&others, during).await;
    sees(&follower, during, 2).await;
}

#[tokio::test]
async fn a_step_that_fails_or_panics_is_made_again() {
    let world = World::new().await;
    let (bad, good) = (world.tenant().await, world.tenant().await);
    let (recorder, _duty) = world.recorder().await;
    let follower = world.follow(&recorder, (bad, 3));
    world.record(&recorder, bad).await;
    world.record(&recorder, good).await;
    sees(&follower, good, 1).await;
    sees(&follower, bad, 1).await;
}

#[tokio::test]
async fn a_shard_that_comes_later_is_looked_at_whole() {
    let world = World::new().await;
    let tenant = world.tenant().await;
    let (recorder, _duty) = world.recorder().await;
    let shard = usize::from(shard_of(tenant.as_bytes()).0);
    let (mine, mut others) = (world.ownership.shards(), world.ownership.shards().to_vec());
    others[shard] = Shard { held: Held::No, ..others[shard] };
    world.ownership.replace(others.into());
    let follower = world.follow(&recorder, (tenant, 0));
    world.record(&recorder, tenant).await;
    // The feed was read past it.
    world.record(&recorder, TenantId::PLATFORM).await;
    sees(&follower, TenantId::PLATFORM, 1).await;
    assert_eq!(follower.seen.lock().unwrap().get(&tenant), None, "another's");
    world.ownership.replace(mine);
    sees(&follower, tenant, 1).await;
}

#[tokio::test]
async fn old_news_are_cleared_and_who_missed_them_is_told() {
    let world = World::new().await;
    let tenant = world.tenant().await;
    let (recorder, _duty) = world.recorder().await;
    world.record(&recorder, tenant).await;
    let since = |cursor| {
        let store = world.store.clone();
        async move { store.run(move |tx| Box::pin(feed::since(tx, cursor, 10))).await.unwrap() }
    };
    let feed::Since::News { news, next, more: false } = since(feed::Cursor::default()).await else {
        panic!("nothing is cleared yet")
    };
    assert_eq!(news, [feed::News { tenant, at: Timestamp(1_000_000) }]);
    world.clock.advance(Duration::from_secs(3_600));
    let follower = world.follow(&recorder, (tenant, 0));
    let cleared = async {
        while since(feed::Cursor::default()).await != feed::Since::Missed {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), cleared).await.unwrap();
    assert!(matches!(since(next).await, feed::Since::News { news, .. } if news.is_empty()), "it was read");
    let end = world.store.run(|tx| Box::pin(feed::end(tx))).await.unwrap();
    assert_eq!(end, next);
    world.record(&recorder, tenant).await;
    sees(&follower, tenant, 2).await;
    assert!(matches!(since(next).await, feed::Since::News { news, .. } if news.len() == 1));
}
