use futures::FutureExt;

use crate::fixture::{Fixture, raw, within};

pub(crate) async fn a_change_wakes(store: Fixture) {
    // Not polled before the change: the watch counts from the call.
    let watch = store.watch(&raw("a"));
    store.set("a", b"1").await;
    within(watch).await.unwrap();
    let watch = store.watch(&raw("a"));
    store.run_borrowing(|tx| Box::pin(async move { tx.clear_raw(&raw("a")) })).await.unwrap();
    within(watch).await.unwrap();
}

pub(crate) async fn an_equal_value_or_another_key_does_not(store: Fixture) {
    store.set("a", b"1").await;
    let mut watch = store.watch(&raw("a"));
    store.set("a", b"1").await;
    store.set("b", b"2").await;
    assert!((&mut watch).now_or_never().is_none());
    store.set("a", b"2").await;
    within(watch).await.unwrap();
}

pub(crate) async fn a_cleared_range_wakes(store: Fixture) {
    store.set("b", b"1").await;
    let watch = store.watch(&raw("b"));
    store
        .run_borrowing(|tx| Box::pin(async move { tx.clear_range_raw(&raw("a"), &raw("c")) }))
        .await
        .unwrap();
    within(watch).await.unwrap();
}
