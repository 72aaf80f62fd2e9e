use std::time::Duration;

use aesp_storage::{Error, MAX_KEY_BYTES, MAX_VALUE_BYTES, Store};

use crate::{
    fixture::{Fixture, TENANT, all_raw, memory, raw},
    rows::Note,
};

fn too_large(error: Result<(), Error>, expected: &str) -> bool {
    matches!(error, Err(Error::TooLarge { what, .. }) if what == expected)
}

pub(crate) async fn keys_and_values(store: Fixture) {
    let longest = &vec![b'k'; MAX_KEY_BYTES];
    let largest = &vec![b'v'; MAX_VALUE_BYTES];
    store.run_borrowing(|tx| Box::pin(async move { tx.set_raw(longest, largest) })).await.unwrap();
    let back = store.run_borrowing(|tx| Box::pin(async move { tx.get_raw(longest).await })).await.unwrap();
    assert_eq!(back.unwrap(), largest);
    let key = &[longest.as_slice(), b"k"].concat();
    let value = &[largest.as_slice(), b"v"].concat();
    assert!(too_large(store.run_borrowing(|tx| Box::pin(async move { tx.set_raw(key, b"") })).await, "key"));
    assert!(too_large(
        store.run_borrowing(|tx| Box::pin(async move { tx.set_raw(b"k", value) })).await,
        "value"
    ));
    assert!(too_large(
        store
            .run_borrowing(|tx| Box::pin(async move { tx.set_versionstamped_key(&key[11..], b"1", b"") }))
            .await,
        "key"
    ));
    let empty = store.run_borrowing(|tx| Box::pin(async move { tx.set_raw(b"", b"") })).await;
    assert!(matches!(empty, Err(Error::EmptyKey)));
}

pub(crate) async fn whole_transactions(store: Fixture) {
    let value = &vec![0; MAX_VALUE_BYTES];
    let write = |count: usize| {
        store.run_borrowing(move |tx| {
            Box::pin(async move { (0..count).try_for_each(|n| tx.set_raw(&raw(&format!("{n}")), value)) })
        })
    };
    write(99).await.unwrap();
    assert!(too_large(write(101).await, "transaction"));
    // Reading is bounded by time and by limits, not by size: a tenant's snapshot may be larger than any transaction.
    let read = store.run_borrowing(|tx| {
        Box::pin(async move {
            let mut bytes = 0;
            for _ in 0..2 {
                bytes += tx.range_raw(all_raw()).await?.iter().map(|(_, value)| value.len()).sum::<usize>();
            }
            Ok::<_, Error>(bytes)
        })
    });
    assert_eq!(read.await.unwrap(), 2 * 99 * MAX_VALUE_BYTES);
}

pub(crate) async fn rows_up_to_ten_megabytes(store: Fixture) {
    let put = |bytes: usize| {
        let note = Note { text: "x".repeat(bytes) };
        let store: &Store = &store;
        async move {
            let note = &note;
            store
                .run_borrowing(|tx| Box::pin(async move { tx.put(TENANT, &"big".to_owned(), note).await }))
                .await
        }
    };
    put(9_800_000).await.unwrap();
    assert!(too_large(put(9_900_000).await, "row"));
}

/// Engines don't tell the time to each other, so one is enough.
#[tokio::test(start_paused = true)]
async fn a_transaction_lives_five_seconds() {
    let store = memory().await;
    let slow: Result<(), Error> = store
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.set_raw(&raw("a"), b"1")?;
                tokio::time::sleep(Duration::from_secs(6)).await;
                Ok(())
            })
        })
        .await;
    assert!(matches!(slow, Err(Error::Timeout)));
    assert_eq!(store.value("a").await, None);
}

#[tokio::test(start_paused = true)]
async fn the_runner_gives_up_after_ten_seconds() {
    let store = memory().await;
    let (faulty, _, faults) = store.with_faults();
    faults.conflict(usize::MAX);
    let started = tokio::time::Instant::now();
    let ran = faulty.run_borrowing(|tx| Box::pin(async move { tx.set_raw(&raw("a"), b"1") })).await;
    assert!(matches!(ran, Err(Error::Timeout)));
    assert!(started.elapsed() <= Duration::from_secs(11));
}
