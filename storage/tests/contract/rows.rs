use aesp_proto::TenantId;
use aesp_storage::{Error, Kind, Range, Row, RowKey, Scan, encode, row_key};
use serde::{Deserialize, Serialize};

use crate::fixture::{Fixture, OTHER, TENANT};

/// A sealed row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) text: String,
}

impl Note {
    pub(crate) const KIND_OF_NAME: Kind = Kind::PRINCIPAL_NAME;
}

impl Row for Note {
    const KIND: Kind = Kind::CONFIG;
    type Key = String;
}

/// A row in the open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    n: u64,
}

impl Row for Counter {
    const KIND: Kind = Kind::OUTCOME;
    const SEALED: bool = false;
    type Key = (u16, u64);
}

fn note(text: &str) -> Note {
    Note { text: text.to_owned() }
}

async fn put(store: &Fixture, tenant: TenantId, key: &str, row: &Note) {
    store
        .run_borrowing(|tx| Box::pin(async move { tx.put(tenant, &key.to_owned(), row).await }))
        .await
        .unwrap();
}

async fn get(store: &Fixture, tenant: TenantId, key: &str) -> Result<Option<Note>, Error> {
    store.run_borrowing(|tx| Box::pin(async move { tx.get(tenant, &key.to_owned()).await })).await
}

pub(crate) async fn rows_come_back(store: Fixture) {
    put(&store, TENANT, "a", &note("one")).await;
    assert_eq!(get(&store, TENANT, "a").await.unwrap(), Some(note("one")));
    assert_eq!(get(&store, TENANT, "b").await.unwrap(), None);
    store
        .run_borrowing(|tx| Box::pin(async move { tx.delete::<Note>(TENANT, &"a".to_owned()).await }))
        .await
        .unwrap();
    assert_eq!(get(&store, TENANT, "a").await.unwrap(), None);
}

pub(crate) async fn scans_have_cursors(store: Fixture) {
    let fill = store.run_borrowing(|tx| {
        Box::pin(async move {
            for shard in 0..3_u16 {
                for n in 0..5_u64 {
                    tx.put(TENANT, &(shard, n), &Counter { n }).await?;
                }
            }
            Ok::<_, Error>(())
        })
    });
    fill.await.unwrap();
    let scan = async |scan: Scan| {
        let scan = &scan;
        let rows =
            store.run_borrowing(|tx| Box::pin(async move { tx.scan::<Counter>(TENANT, scan.clone()).await }));
        rows.await.unwrap().into_iter().map(|(key, row)| (key.0, row.n)).collect::<Vec<_>>()
    };
    let shard = encode(&1_u16);
    assert_eq!(scan(Scan::default()).await.len(), 15);
    let of_shard = Scan { prefix: shard.clone(), limit: 2, ..Scan::default() };
    assert_eq!(scan(of_shard.clone()).await, [(1, 0), (1, 1)]);
    let next = Scan { after: Some(encode(&(1_u16, 1_u64))), ..of_shard.clone() };
    assert_eq!(scan(next).await, [(1, 2), (1, 3)]);
    let backwards = Scan { reverse: true, after: Some(encode(&(1_u16, 3_u64))), ..of_shard };
    assert_eq!(scan(backwards).await, [(1, 2), (1, 1)]);
}

pub(crate) async fn large_rows_are_chunked_and_cleaned(store: Fixture) {
    let chunks = async || {
        let range = Range::prefix(&row_key(TENANT, Kind::CHUNK, &[]));
        let range = &range;
        store
            .run_borrowing(|tx| Box::pin(async move { tx.range_raw(range.clone()).await }))
            .await
            .unwrap()
            .len()
    };
    let large = note(&"x".repeat(350_000));
    put(&store, TENANT, "a", &large).await;
    put(&store, TENANT, "b", &note("small")).await;
    assert_eq!(chunks().await, 4);
    assert_eq!(get(&store, TENANT, "a").await.unwrap(), Some(large));
    let all = store
        .run_borrowing(|tx| Box::pin(async move { tx.scan::<Note>(TENANT, Scan::default()).await }))
        .await
        .unwrap();
    assert_eq!(all.len(), 2, "chunks are no rows");
    put(&store, TENANT, "a", &note(&"y".repeat(150_000))).await;
    assert_eq!(chunks().await, 2, "an overwrite removes what it does not need");
    put(&store, TENANT, "a", &note("small")).await;
    assert_eq!(chunks().await, 0);
    put(&store, TENANT, "a", &note(&"z".repeat(150_000))).await;
    store
        .run_borrowing(|tx| Box::pin(async move { tx.delete::<Note>(TENANT, &"a".to_owned()).await }))
        .await
        .unwrap();
    assert_eq!(chunks().await, 0);
}

/// Whoever can write to the file but has no key can't move a value to where it says something else.
pub(crate) async fn sealed_rows_are_bound_to_their_place(store: Fixture) {
    put(&store, TENANT, "victim", &note("role: none")).await;
    put(&store, TENANT, "admin", &note("role: administrator")).await;
    let raw = |name: &str| row_key(TENANT, Kind::CONFIG, &encode(&name.to_owned()));
    let (from, to) = (&raw("admin"), &raw("victim"));
    let moved = store.run_borrowing(|tx| {
        Box::pin(async move {
            let value = tx.get_raw(from).await?.unwrap();
            assert!(!value.windows(13).any(|part| part == b"administrator"), "sealed");
            tx.set_raw(to, &value)
        })
    });
    moved.await.unwrap();
    assert!(matches!(get(&store, TENANT, "victim").await, Err(Error::Damaged { .. })));
    assert_eq!(get(&store, TENANT, "admin").await.unwrap(), Some(note("role: administrator")));
}

pub(crate) async fn tenants_do_not_meet(store: Fixture) {
    put(&store, TENANT, "a", &note("mine")).await;
    put(&store, OTHER, "a", &note("theirs")).await;
    assert_eq!(get(&store, TENANT, "a").await.unwrap(), Some(note("mine")));
    let all = store
        .run_borrowing(|tx| Box::pin(async move { tx.scan::<Note>(OTHER, Scan::default()).await }))
        .await
        .unwrap();
    assert_eq!(all, [("a".to_owned(), note("theirs"))]);
    let key = <String as RowKey>::decode(&encode(&"a".to_owned())).unwrap();
    assert_eq!(key, "a");
}
