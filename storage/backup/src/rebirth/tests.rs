use aesp_audit::{Event, Options, Query, Recorder, query};
use aesp_proto::{
    ManualClock,
    v1::{EventType, Outcome},
};
use aesp_storage::Error as StoreError;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    entropy: Entropy,
    tenant: TenantId,
}

impl World {
    /// A store as a killed cluster leaves it.
    async fn new() -> Self {
        let store = Store::for_tests();
        let tenant = TenantId::from_bytes([9; 16]);
        store
            .run(move |tx| {
                Box::pin(async move {
                    tx.create_tenant_keys(tenant).await?;
                    tx.bump_revision(tenant).await?;
                    tx.next_incarnation().await?;
                    tx.claim_shards(1).await?;
                    for kind in [Kind::NODE, Kind::JOIN_TOKEN, Kind::SIGNING_KEY] {
                        tx.set_raw(&row_key(TenantId::PLATFORM, kind, &[1; 8]), b"old")?;
                    }
                    tx.set_raw(&row_key(tenant, Kind::REFRESH_FAMILY, &[1; 16]), b"old")?;
                    tx.set_raw(&row_key(tenant, Kind::API_KEY, &[1; 16]), b"kept")
                })
            })
            .await
            .unwrap();
        let world =
            Self { store, clock: Arc::new(ManualClock::new(NOW)), entropy: Entropy::from_seed(5), tenant };
        let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
        let started =
            Recorder::start(world.store.clone(), clock, world.entropy.clone(), Options::default()).await;
        let (recorder, duty) = started.unwrap();
        let event =
            Event::new(&world.entropy, tenant, EventType::ToolInvocation, "tool.invoke", Outcome::Success);
        recorder.append(vec![event]).await.unwrap();
        duty.stop().await.unwrap();
        world
    }

    async fn rebirth(&self, life: &str, patience: Duration) -> Result<Reborn, Error> {
        let descent = Descent {
            cause: "restore",
            life: life.into(),
            cluster: "one".into(),
            version: 41,
            time: Timestamp(NOW.0 - 5_000),
        };
        rebirth(&self.store, Arc::clone(&self.clock) as Arc<dyn Clock>, &self.entropy, &descent, patience)
            .await
    }

    async fn actions(&self) -> Vec<String> {
        let page = query(&self.store, &Query::new(self.tenant)).await.unwrap();
        page.events.into_iter().map(|event| event.action).collect()
    }
}

#[tokio::test]
async fn nothing_of_the_former_life_holds() {
    let world = World::new().await;
    let reborn = world.rebirth("a", Duration::ZERO).await.unwrap();
    assert_eq!(reborn, Reborn { log_epoch: 1_800_000_000, tenants: 2, origins: 2, nodes: 1 });
    check(&world.store).await.unwrap();
    let tenant = world.tenant;
    world
        .store
        .run(move |tx| {
            Box::pin(async move {
                for kind in [Kind::NODE, Kind::JOIN_TOKEN, Kind::SIGNING_KEY, Kind::RIGHTS_CHANGE] {
                    let left = tx.range_raw(Range::prefix(&row_key(TenantId::PLATFORM, kind, &[]))).await?;
                    assert!(left.is_empty(), "{kind:?}");
                }
                let refresh = Range::prefix(&row_key(tenant, Kind::REFRESH_FAMILY, &[]));
                assert!(tx.range_raw(refresh).await?.is_empty(), "refresh tokens end");
                let key = row_key(tenant, Kind::API_KEY, &[1; 16]);
                assert_eq!(tx.get_raw(&key).await?.as_deref(), Some(&b"kept"[..]));
                assert!(tx.revision(tenant).await?.0 > GAP);
                assert!(tx.next_incarnation().await? > GAP);
                assert!(tx.rights_position().await?.0 > GAP);
                let shard = tx.shard_row(aesp_proto::ShardId(3)).await?;
                assert!(shard.owner.is_none() && shard.epoch.0 > GAP);
                Ok::<_, StoreError>(())
            })
        })
        .await
        .unwrap();
    assert_eq!(world.actions().await, ["tool.invoke", "store.restored"]);
}

#[tokio::test]
async fn the_same_life_again_changes_nothing_and_another_one_does() {
    let world = World::new().await;
    let first = world.rebirth("a", Duration::ZERO).await.unwrap();
    let again = world.rebirth("a", Duration::ZERO).await.unwrap();
    assert_eq!((again.log_epoch, again.origins), (first.log_epoch, 0));
    assert_eq!(world.actions().await.len(), 2);
    let other = world.rebirth("b", Duration::ZERO).await.unwrap();
    assert_eq!(other.log_epoch, first.log_epoch + 1, "also within the same second");
    assert_eq!(world.actions().await, ["tool.invoke", "store.restored", "store.restored"]);
}

#[tokio::test]
async fn one_that_was_cut_off_keeps_nodes_away_and_is_completed() {
    let world = World::new().await;
    let descent = Descent {
        cause: "restore",
        life: "a".into(),
        cluster: "one".into(),
        version: 41,
        time: Timestamp(NOW.0 - 5_000),
    };
    let seen = watch(&world.store, Duration::ZERO).await.unwrap();
    let begun =
        world.store.run_borrowing(|tx| Box::pin(begin(tx, &descent, seen.clone(), NOW))).await.unwrap();
    assert!(matches!(check(&world.store).await, Err(Error::Unfinished)));
    let reborn = world.rebirth("a", Duration::ZERO).await.unwrap();
    assert_eq!((reborn.log_epoch, reborn.origins), (begun.log_epoch, 2));
    check(&world.store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_serves_is_left_alone() {
    let world = World::new().await;
    let beating = async {
        sleep(Duration::from_millis(500)).await;
        let beat = world.store.run(|tx| {
            Box::pin(async move { tx.set_raw(&row_key(TenantId::PLATFORM, Kind::NODE, &[1; 8]), b"beat") })
        });
        beat.await.unwrap();
    };
    let (refused, ()) = tokio::join!(world.rebirth("a", Duration::from_secs(3)), beating);
    assert!(matches!(refused, Err(Error::Serving)));
    assert_eq!(world.actions().await, ["tool.invoke"]);
}
