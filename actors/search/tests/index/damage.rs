//! An index that was tampered with is found and made anew; nobody gets a wrong answer.

use aesp_audit::Query;
use aesp_proto::TenantId;
use aesp_search::{GroupBy, Index, Question};
use aesp_storage::{Kind, Range, row_key};

use crate::world::World;

const KINDS: [Kind; 4] = [Kind::SEARCH_SEGMENT, Kind::SEARCH_PLACES, Kind::SEARCH_COUNTS, Kind::SEARCH_TERMS];

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

async fn rows(world: &World, kind: Kind) -> Rows {
    let prefix = row_key(world.tenant, kind, &[]);
    let rows = world.store.run(move |tx| {
        let range = Range::prefix(&prefix);
        Box::pin(async move { tx.range_raw(range).await })
    });
    rows.await.unwrap().into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

async fn write(world: &World, rows: Rows) {
    let written = world.store.run(move |tx| {
        let rows = rows.clone();
        Box::pin(async move {
            for (key, value) in rows {
                if value.is_empty() {
                    tx.clear_raw(&key)?;
                } else {
                    tx.set_raw(&key, &value)?;
                }
            }
            Ok::<_, aesp_storage::Error>(())
        })
    });
    written.await.unwrap();
}

async fn all_is_well(world: &World, what: &str) {
    for filter in world.filters() {
        for newest_first in [false, true] {
            let query = Query { filter: filter.clone(), newest_first, ..world.query() };
            assert_eq!(world.found(&query).await, world.in_log(&query).await, "{what}: {query:?}");
        }
    }
    for by in [vec![GroupBy::Outcome], vec![GroupBy::Tool]] {
        let question = Question {
            tenant: world.tenant,
            start: None,
            end: None,
            filter: aesp_audit::Filter::default(),
            by,
            cursor: String::new(),
        };
        let answer = world.index.statistics(&question).await.unwrap();
        let events: u64 = answer.groups.iter().map(|line| line.tally.events).sum();
        assert_eq!((events, answer.next_cursor.as_str()), (100, ""), "{what}");
    }
}

#[tokio::test]
async fn a_row_that_is_changed_swapped_or_gone_is_found_and_made_anew() {
    let world = World::new().await;
    world.record(100).await;
    assert_eq!(world.build().await, 6);
    for kind in KINDS {
        let sound = rows(&world, kind).await;
        let of = |segment: u64| -> Rows {
            sound.iter().filter(|(key, _)| key.ends_with(&segment.to_be_bytes())).cloned().collect()
        };
        let flipped = of(3).into_iter().map(|(key, mut value)| {
            *value.last_mut().unwrap() ^= 1;
            (key, value)
        });
        // Sealed for another place.
        let swapped = of(3).into_iter().zip(of(2)).map(|((key, _), (_, value))| (key, value));
        let gone = of(3).into_iter().map(|(key, _)| (key, Vec::new()));
        let harms: [(&str, Rows); 3] =
            [("changed", flipped.collect()), ("swapped", swapped.collect()), ("gone", gone.collect())];
        for (harm, harmed) in harms {
            assert!(!harmed.is_empty());
            write(&world, harmed).await;
            all_is_well(&world, &format!("{kind:?} {harm}")).await;
            assert_eq!(world.build().await, 6);
            assert_eq!(rows(&world, kind).await.len(), sound.len());
        }
    }
}

#[tokio::test]
async fn an_index_without_its_head_or_state_grows_again() {
    let world = World::new().await;
    world.record(100).await;
    world.build().await;
    let mut gone = Vec::new();
    for kind in [Kind::SEARCH_SEGMENT, Kind::SEARCH_PLACES] {
        gone.extend(rows(&world, kind).await.into_iter().take(3).map(|(key, _)| (key, Vec::new())));
    }
    write(&world, gone).await;
    all_is_well(&world, "three segments without a head").await;
    assert_eq!(world.build().await, 6);

    let state = row_key(world.tenant, Kind::SEARCH_STATE, &[]);
    for damage in [b"nonsense".to_vec(), Vec::new()] {
        write(&world, vec![(state.clone(), damage)]).await;
        all_is_well(&world, "no state").await;
        assert_eq!(world.build().await, 6);
    }
}

#[tokio::test]
async fn a_rebuild_makes_the_same_index() {
    let world = World::new().await;
    world.record(100).await;
    world.build().await;
    let before = world.index.status(world.tenant).await.unwrap();
    let tenant: TenantId = world.tenant;
    let rebuilt = world.store.run(move |tx| Box::pin(async move { Index::rebuild(tx, tenant).await }));
    rebuilt.await.unwrap();
    assert_eq!(world.index.status(tenant).await.unwrap().0.segments, 0);
    all_is_well(&world, "an empty index").await;
    world.build().await;
    assert_eq!(world.index.status(tenant).await.unwrap(), before);
    all_is_well(&world, "a new index").await;
}

#[tokio::test]
async fn nothing_that_people_gave_stands_in_the_open() {
    let world = World::new().await;
    world.record(40).await;
    world.build().await;
    for kind in KINDS {
        for (key, value) in rows(&world, kind).await {
            let row = [key.as_slice(), &value].concat();
            for secret in ["because", "192.0.2", "no-nights", "tool.invoke", "c33"] {
                let stands = row.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!stands, "{secret} stands in a row of {kind:?}");
            }
        }
    }
}
