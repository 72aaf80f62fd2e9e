use aesp_audit::{Error as AuditError, Query};
use aesp_proto::Timestamp;
use aesp_search::{Error, Step};
use aesp_storage::Error as StoreError;

use crate::world::{SEGMENT, START, World, opened};

#[tokio::test]
async fn every_search_finds_what_the_log_has_with_any_index() {
    let world = World::new().await;
    world.record(150).await;
    // Without an index, with all that fits in segments, and with much more log behind it.
    for (round, segments) in [(0, 0), (1, 150 / SEGMENT as u64), (2, 150 / SEGMENT as u64)] {
        if round == 1 {
            assert_eq!(world.build().await, segments);
        } else if round == 2 {
            world.record(60).await;
        }
        let hour = 3_600_000;
        let times =
            [(None, None), (Some(START + hour), Some(START + 2 * hour)), (Some(START + 3 * hour / 2), None)];
        for filter in world.filters() {
            for (start, end) in times {
                for newest_first in [false, true] {
                    let query = Query {
                        start: start.map(Timestamp),
                        end: end.map(Timestamp),
                        filter: filter.clone(),
                        newest_first,
                        ..world.query()
                    };
                    assert_eq!(world.found(&query).await, world.in_log(&query).await, "{query:?}");
                }
            }
        }
        assert_eq!(world.index.status(world.tenant).await.unwrap().0.segments, segments);
    }
}

#[tokio::test]
async fn the_index_says_how_far_it_is_and_grows_only_under_the_fence() {
    let world = World::new().await;
    world.record(SEGMENT as u32 + 3).await;
    assert_eq!(world.build().await, 1);
    let (status, at_end) = world.index.status(world.tenant).await.unwrap();
    assert_eq!((status.events, at_end, status.usable), (SEGMENT as u64, false, true));
    let first = world.in_log(&world.query()).await;
    assert_eq!(status.newest.0, first[..SEGMENT].iter().map(|event| event.timestamp_ms).max().unwrap());

    // What waits is not read again, and counts all the same.
    for more in [4, 4, 4] {
        assert_eq!(world.index.advance(world.tenant, world.fence).await.unwrap(), Step::AtEnd);
        world.record(more).await;
    }
    assert_eq!(world.build().await, 1);
    world.record(1).await;
    assert_eq!(world.index.advance(world.tenant, world.fence).await.unwrap(), Step::More);
    assert!(world.index.status(world.tenant).await.unwrap().1, "all of the log is in two segments");

    world.store.run(|tx| Box::pin(async move { tx.claim_shards(2).await })).await.unwrap();
    world.record(SEGMENT as u32).await;
    // As another node meets it, and as one that remembers.
    for index in [opened(&world.store), world.index.clone()] {
        let fenced = index.advance(world.tenant, world.fence).await;
        assert!(matches!(fenced, Err(Error::Store(StoreError::Fenced { .. }))), "{fenced:?}");
    }
}

#[tokio::test]
async fn a_cursor_is_one_of_its_query() {
    let world = World::new().await;
    world.record(100).await;
    world.build().await;
    let query = Query { filter: world.filters()[1].clone(), ..world.query() };
    let cursor = world.index.search(&query).await.unwrap().page.next_cursor;
    let other = Query { filter: world.filters()[2].clone(), cursor, ..world.query() };
    let refused = world.index.search(&other).await;
    assert!(matches!(refused, Err(Error::Audit(AuditError::InvalidCursor))), "{refused:?}");
}

#[tokio::test]
async fn without_its_keys_a_tenants_log_is_read_as_far_as_it_can_be() {
    let world = World::new().await;
    world.record(50).await;
    world.build().await;
    let tenant = world.tenant;
    let gone = world.store.run(move |tx| Box::pin(async move { tx.destroy_tenant_keys(tenant).await }));
    gone.await.unwrap();
    let query = Query { filter: world.filters()[1].clone(), ..world.query() };
    assert!(!world.found(&query).await.is_empty());
    let sealed = Query { filter: world.filters()[9].clone(), ..world.query() };
    assert!(world.found(&sealed).await.is_empty());
    assert!(!world.index.status(tenant).await.unwrap().0.usable);
    assert_eq!(world.index.advance(tenant, world.fence).await.unwrap(), Step::AtEnd);
}
