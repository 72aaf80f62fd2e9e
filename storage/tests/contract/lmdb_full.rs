use aesp_storage::{Error, LmdbOptions};
use futures::future::join_all;

use crate::fixture::{Fixture, all_raw, lmdb_of, raw};

async fn small() -> Fixture {
    lmdb_of(LmdbOptions { map_size_bytes: 2 << 20, ..LmdbOptions::default() }).await
}

async fn fill(store: &Fixture) -> usize {
    for n in 0.. {
        let key = &raw(&format!("{n:05}"));
        match store.run_borrowing(|tx| Box::pin(async move { tx.set_raw(key, &[1; 20_000]) })).await {
            Ok(()) => {}
            Err(Error::Full) => return n,
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!("the map is finite")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_says_so_and_recovers() {
    let store = small().await;
    let written = fill(&store).await;
    assert!(written > 10, "{written}");
    assert_eq!(store.value("00000").await.unwrap().len(), 20_000, "what is there can be read");
    let revoke = store.run_borrowing(|tx| {
        Box::pin(async move {
            tx.use_reserve();
            tx.set_raw(&raw("revoked"), b"1")
        })
    });
    revoke.await.expect("space is kept back for revocations");
    let range = all_raw();
    store.run_borrowing(|tx| Box::pin(async { tx.clear_range_raw(&range.start, &range.end) })).await.unwrap();
    let again = fill(&store).await;
    // Not all of it at once: long values need neighbouring pages, and the latest pages wait for another commit.
    assert!(again * 2 > written, "the space is there again: {again} of {written}");
}

/// One transaction that does not fit makes LMDB give up the whole group; the others must not notice.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_guilty_fails() {
    let store = &small().await;
    let small_ones = (0..40).map(|n| async move {
        let (key, guilty) = (&raw(&n.to_string()), n % 10 == 5);
        let written = store
            .run_borrowing(|tx| {
                Box::pin(async move {
                    if guilty {
                        tx.use_reserve();
                        return (0..40)
                            .try_for_each(|part| tx.set_raw(&raw(&format!("{n}/{part}")), &[0; 90_000]));
                    }
                    tx.set_raw(key, b"1")
                })
            })
            .await;
        (guilty, written)
    });
    for (guilty, written) in join_all(small_ones).await {
        assert_eq!(guilty, matches!(written, Err(Error::Full)), "{written:?}");
        assert_eq!(guilty, written.is_err(), "{written:?}");
    }
    let rows =
        store.run_borrowing(|tx| Box::pin(async move { tx.range_raw(all_raw()).await })).await.unwrap();
    assert_eq!(rows.len(), 36, "nothing of the guilty ones is left");
}
