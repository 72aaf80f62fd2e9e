use std::{path::Path, sync::Arc, time::Duration};

use aesp_audit::{Filter, Query, shelf::bundles};
use aesp_backup::{Credentials, Files, Target};
use aesp_proto::{Clock, Timestamp};
use aesp_retention::{Archive, Error, Metrics, Moved, erase, shelf};
use aesp_storage::{Kind, Range, row_key};

use crate::world::{BOSS, DAY, World, is_erased};

fn archive(folder: &Path) -> Archive {
    let target = Target::parse(&format!("file://{}", folder.display()), Credentials::default()).unwrap();
    Archive::new(Files::open(&target).unwrap(), DAY * 30)
}

async fn moved(world: &World, archive: &Archive) -> Result<Moved, Error> {
    let metrics = Metrics::unregistered().unwrap();
    let clock = &*world.clock as &dyn Clock;
    archive.run(&world.store, world.tenant, clock, Some(world.fence), &metrics, Duration::from_secs(60)).await
}

async fn rows(world: &World, kind: Kind) -> usize {
    let range = Range::prefix(&row_key(world.tenant, kind, &[]));
    let read = world.run(move |tx| {
        let range = range.clone();
        Box::pin(async move { Ok(tx.range_raw(range).await?.len()) })
    });
    read.await.unwrap()
}

/// Everything that a query shows, in both directions, in pages of any size and from any time.
async fn everything(world: &World) -> Vec<Vec<aesp_proto::v1::AuditEvent>> {
    let mut out = Vec::new();
    for newest_first in [false, true] {
        for limit in [3, 1_000] {
            for (start, end) in [(None, None), (Some(4), None), (None, Some(4)), (Some(2), Some(50))] {
                let day = |day: Option<u32>| day.map(|day| Timestamp(crate::world::START).plus(DAY * day));
                let mut query = Query {
                    limit,
                    newest_first,
                    start: day(start),
                    end: day(end),
                    ..Query::new(world.tenant)
                };
                let mut all = Vec::new();
                loop {
                    let page = aesp_audit::query(&world.store, &query).await.unwrap();
                    all.extend(page.events);
                    query.cursor = page.next_cursor;
                    if query.cursor.is_empty() {
                        break;
                    }
                }
                out.push(all);
            }
        }
    }
    out
}

#[tokio::test]
async fn what_was_moved_is_read_proven_searched_and_erased_as_before() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(folder.path());
    world.store.attach(Arc::new(shelf(&archive)));
    for _ in 0..6 {
        world.record(4).await;
        world.clock.advance(DAY * 2);
    }
    assert_eq!(moved(&world, &archive).await.unwrap(), Moved::default(), "nothing is old enough");
    world.clock.advance(DAY * 25);
    world.build().await;
    let (before, log, events) =
        (everything(&world).await, world.verified().await, world.events(Filter::default()).await);
    let in_store = rows(&world, Kind::AUDIT_EVENT).await;

    let first = moved(&world, &archive).await.unwrap();
    assert!(first.bundles == 1 && (12..72).contains(&first.events), "{first:?}");
    assert_eq!(rows(&world, Kind::AUDIT_EVENT).await, in_store - first.events as usize);
    assert_eq!(everything(&world).await, before, "queries see no difference");
    assert_eq!(world.verified().await.events, log.events, "exports verify");
    assert_eq!(world.events(Filter::default()).await, events);

    // More is recorded and moved, bundle after bundle; the index is made from what lies there.
    world.record(8).await;
    world.clock.advance(DAY * 40);
    assert_eq!(moved(&world, &archive).await.unwrap().bundles, 1);
    assert_eq!((rows(&world, Kind::AUDIT_EVENT).await, rows(&world, Kind::AUDIT_BATCH).await), (0, 0));
    let tenant = world.tenant;
    world
        .run(move |tx| Box::pin(async move { Ok(aesp_search::Index::rebuild(tx, tenant).await?) }))
        .await
        .unwrap();
    world.build().await;
    world.record(1).await;
    let all = world.events(Filter { principals: vec![world.people[0]], ..Filter::default() }).await;
    assert_eq!(all.len(), 33);
    assert!(world.verified().await.trusted);

    // Erased is erased, wherever it lies, and the sweep finds it there.
    let (who, now) = (world.people[0], world.clock.now());
    let erased =
        world.run(move |tx| Box::pin(async move { erase(tx, tenant, who, "asked", (BOSS, now)).await }));
    erased.await.unwrap();
    let gone = world.events(Filter { principals: vec![who], ..Filter::default() }).await;
    assert!(gone.len() == 33 && gone.iter().all(is_erased));
    assert_eq!(world.sweep().await, 33);
    assert!(world.verified().await.trusted);
}

#[tokio::test]
async fn an_object_that_is_gone_or_changed_is_named_and_never_believed() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(folder.path());
    world.record(4).await;
    world.clock.advance(DAY * 60);
    moved(&world, &archive).await.unwrap();
    let tenant = world.tenant;
    let found = world.run(move |tx| Box::pin(async move { Ok(bundles(tx, tenant).await?) })).await.unwrap();
    let object = found[0].1.object.clone();
    let path = folder.path().join(&object);
    let read = async || aesp_audit::query(&world.store, &Query::new(tenant)).await;
    let refused = read().await.unwrap_err().to_string();
    assert!(refused.contains(&object) && refused.contains("[audit.archive]"), "{refused}");
    world.store.attach(Arc::new(shelf(&archive)));

    let whole = std::fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    let refused = read().await.unwrap_err();
    assert!(
        matches!(&refused, aesp_audit::Error::ShelfDamaged { object: named, .. } if *named == object),
        "{refused:?}"
    );
    std::fs::remove_file(&path).unwrap();
    let refused = read().await.unwrap_err();
    assert!(
        matches!(&refused, aesp_audit::Error::Shelf { object: named, .. } if *named == object),
        "{refused:?}"
    );
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(read().await.unwrap().events.len(), 12, "it is the same again");
}

#[tokio::test]
async fn who_dies_between_the_object_and_the_rows_loses_nothing_and_two_do_not_move_twice() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(folder.path());
    world.store.attach(Arc::new(shelf(&archive)));
    world.record(4).await;
    world.clock.advance(DAY * 60);
    // One packs and writes its object, and is gone before the rows are taken out.
    let (tenant, now) = (world.tenant, world.clock.now());
    let packed = world
        .run(move |tx| {
            Box::pin(async move { Ok(aesp_audit::shelf::pack(tx, tenant, now, now).await?.unwrap()) })
        })
        .await
        .unwrap();
    let path = folder.path().join(&packed.bundle.object);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &packed.object).unwrap();
    assert_eq!(world.events(Filter::default()).await.len(), 12);
    // The next home finds it right. Then the first comes back, and is told that another was faster.
    assert_eq!(moved(&world, &archive).await.unwrap().events, 12);
    let packed = Arc::new(packed);
    let late = world.run(move |tx| {
        let packed = Arc::clone(&packed);
        Box::pin(async move { Ok(aesp_audit::shelf::settle(tx, tenant, &packed).await?) })
    });
    assert!(!late.await.unwrap());
    assert_eq!(world.events(Filter::default()).await.len(), 12);
    assert!(world.verified().await.trusted);
}
