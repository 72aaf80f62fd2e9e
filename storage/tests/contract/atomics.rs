use std::sync::atomic::{AtomicUsize, Ordering};

use aesp_storage::Error;
use futures::future::join_all;

use crate::fixture::{Fixture, raw};

pub(crate) async fn adds_do_not_conflict(store: Fixture) {
    let attempts = &AtomicUsize::new(0);
    let add = |_| {
        store.run_borrowing(|tx| {
            attempts.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move { tx.atomic_add(&raw("n"), 3) })
        })
    };
    for added in join_all((0..50).map(add)).await {
        added.unwrap();
    }
    assert_eq!(store.value("n").await.unwrap(), 150_i64.to_le_bytes());
    assert!(attempts.load(Ordering::SeqCst) < 70, "only spurious conflicts are rerun");
}

pub(crate) async fn own_operations_are_read(store: Fixture) {
    store.set("n", &5_i64.to_le_bytes()).await;
    let seen = store
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.atomic_add(&raw("n"), -7)?;
                tx.atomic_add(&raw("n"), 1)?;
                let n = tx.get_raw(&raw("n")).await?;
                tx.clear_raw(&raw("n"))?;
                tx.atomic_add(&raw("n"), 4)?;
                Ok::<_, Error>((n, tx.get_raw(&raw("n")).await?))
            })
        })
        .await
        .unwrap();
    assert_eq!(seen.0.unwrap(), (-1_i64).to_le_bytes()[..]);
    assert_eq!(seen.1.unwrap(), 4_i64.to_le_bytes()[..]);
    assert_eq!(store.value("n").await.unwrap(), 4_i64.to_le_bytes());
}

pub(crate) async fn max_is_unsigned(store: Fixture) {
    for least in [7, u64::MAX - 1, 3] {
        store.run_borrowing(|tx| Box::pin(async move { tx.atomic_max(&raw("n"), least) })).await.unwrap();
    }
    assert_eq!(store.value("n").await.unwrap(), (u64::MAX - 1).to_le_bytes());
}

pub(crate) async fn odd_lengths_are_filled_up(store: Fixture) {
    store.set("n", &[1]).await;
    store.run_borrowing(|tx| Box::pin(async move { tx.atomic_add(&raw("n"), 1) })).await.unwrap();
    assert_eq!(store.value("n").await.unwrap(), 2_i64.to_le_bytes());
}
