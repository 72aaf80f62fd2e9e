use aesp_storage::{Error, Range};

use crate::fixture::{Fixture, all_raw, raw};

fn names(rows: &[(bytes::Bytes, bytes::Bytes)]) -> Vec<String> {
    rows.iter().map(|(key, _)| String::from_utf8_lossy(&key[18..]).into_owned()).collect()
}

async fn read(store: &Fixture, range: Range) -> Vec<String> {
    let range = &range;
    let rows = store.run_borrowing(|tx| Box::pin(async move { tx.range_raw(range.clone()).await })).await;
    names(&rows.unwrap())
}

pub(crate) async fn both_directions_with_limits(store: Fixture) {
    for name in ["c", "a", "e", "b", "d"] {
        store.set(name, b"1").await;
    }
    assert_eq!(read(&store, all_raw()).await, ["a", "b", "c", "d", "e"]);
    assert_eq!(read(&store, all_raw().limit(2)).await, ["a", "b"]);
    assert_eq!(read(&store, all_raw().reverse(true)).await, ["e", "d", "c", "b", "a"]);
    assert_eq!(read(&store, all_raw().reverse(true).limit(2)).await, ["e", "d"]);
    assert_eq!(read(&store, Range::new(raw("b"), raw("e")).reverse(true).limit(9)).await, ["d", "c", "b"]);
    assert!(read(&store, all_raw().limit(0)).await.is_empty());
    assert!(read(&store, Range::new(raw("e"), raw("a"))).await.is_empty());
}

pub(crate) async fn own_writes_are_merged(store: Fixture) {
    for name in ["a", "c", "e", "g", "i"] {
        store.set(name, b"old").await;
    }
    let (forward, backward, limited) = store
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.set_raw(&raw("b"), b"new")?;
                tx.set_raw(&raw("c"), b"new")?;
                tx.clear_raw(&raw("a"))?;
                tx.clear_range_raw(&raw("d"), &raw("h"))?;
                tx.set_raw(&raw("f"), b"new")?;
                tx.atomic_add(&raw("z"), 1)?;
                let forward = tx.range_raw(all_raw()).await?;
                let backward = tx.range_raw(all_raw().reverse(true).limit(3)).await?;
                Ok::<_, Error>((forward, backward, tx.range_raw(all_raw().limit(2)).await?))
            })
        })
        .await
        .unwrap();
    assert_eq!(names(&forward), ["b", "c", "f", "i", "z"]);
    assert_eq!(forward[1].1, "new");
    assert_eq!(names(&backward), ["z", "i", "f"]);
    assert_eq!(names(&limited), ["b", "c"]);
    assert_eq!(read(&store, all_raw()).await, ["b", "c", "f", "i", "z"], "the commit says the same");
}

pub(crate) async fn bounds_are_half_open(store: Fixture) {
    for name in ["a", "a\0", "b"] {
        store.set(name, b"1").await;
    }
    assert_eq!(read(&store, Range::new(raw("a"), raw("b"))).await, ["a", "a\0"]);
    assert_eq!(read(&store, Range::prefix(&raw("a"))).await, ["a", "a\0"]);
}
