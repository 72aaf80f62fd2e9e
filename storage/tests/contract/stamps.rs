use aesp_storage::{Error, Range};
use futures::future::join_all;

use crate::fixture::{Fixture, all_raw, number, raw};

/// The number is counted in the transaction, so it tells the order of the commits; the stamps must tell the same.
pub(crate) async fn keys_come_in_commit_order(store: Fixture) {
    let append = |_| {
        store.run_borrowing(|tx| {
            Box::pin(async move {
                let next = number(tx.get_raw(&raw("n")).await?.as_deref()) + 1;
                tx.set_raw(&raw("n"), next.to_string().as_bytes())?;
                tx.set_versionstamped_key(&raw("log"), b"suffix", next.to_string().as_bytes())
            })
        })
    };
    for appended in join_all((0..15).map(append)).await {
        appended.unwrap();
    }
    let log = store
        .run_borrowing(|tx| Box::pin(async move { tx.range_raw(Range::prefix(&raw("log"))).await }))
        .await;
    let log: Vec<_> = log.unwrap().iter().map(|(_, value)| number(Some(value))).collect();
    assert_eq!(log, (1..=15).collect::<Vec<_>>());
}

pub(crate) async fn one_transaction_shares_a_stamp(store: Fixture) {
    for _ in 0..2 {
        let append = store.run_borrowing(|tx| {
            Box::pin(async move {
                for place in 0..3_u8 {
                    tx.set_versionstamped_key(&raw(""), &[place], b"")?;
                }
                Ok::<_, Error>(())
            })
        });
        append.await.unwrap();
    }
    let rows =
        store.run_borrowing(|tx| Box::pin(async move { tx.range_raw(all_raw()).await })).await.unwrap();
    let parts: Vec<_> = rows.iter().map(|(key, _)| (&key[18..28], key[28])).collect();
    assert_eq!(parts.iter().map(|(_, place)| *place).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
    assert_eq!(parts[0].0, parts[2].0);
    assert!(parts[2].0 < parts[3].0);
}

pub(crate) async fn stamped_data_is_unreadable_before_commit(store: Fixture) {
    let reads = store
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.set_versionstamped_key(&raw("log"), b"", b"1")?;
                tx.set_versionstamped_value(&raw("last"), b"", b"")?;
                assert!(matches!(tx.atomic_add(&raw("last"), 1), Err(Error::Unreadable)));
                let elsewhere = tx.get_raw(&raw("other")).await;
                Ok::<_, Error>((tx.get_raw(&raw("last")).await, tx.range_raw(all_raw()).await, elsewhere))
            })
        })
        .await
        .unwrap();
    assert!(matches!(reads, (Err(Error::Unreadable), Err(Error::Unreadable), Ok(None))), "{reads:?}");
}

pub(crate) async fn values_are_stamped(store: Fixture) {
    let stamp = store.run_borrowing(|tx| {
        Box::pin(async move {
            tx.set_versionstamped_value(&raw("last"), b"<", b">")?;
            tx.set_versionstamped_key(&raw("log"), b"", b"")
        })
    });
    stamp.await.unwrap();
    let log = store
        .run_borrowing(|tx| Box::pin(async move { tx.range_raw(Range::prefix(&raw("log"))).await }))
        .await
        .unwrap();
    let last = store.value("last").await.unwrap();
    assert_eq!((last.first(), last.last()), (Some(&b'<'), Some(&b'>')));
    assert_eq!(last[1..11], log[0].0[21..31], "the same stamp as the key's");
}
