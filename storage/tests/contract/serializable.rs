use std::sync::atomic::{AtomicUsize, Ordering};

use aesp_proto::Entropy;
use aesp_storage::{Error, Range};
use futures::future::{join, join_all};

use crate::fixture::{Fixture, Overlap, all_raw, number, raw};

/// Each doctor may leave while another stays: both read both, each writes one.
pub(crate) async fn write_skew_is_refused(store: Fixture) {
    store.set("a", b"1").await;
    store.set("b", b"1").await;
    let overlap = &Overlap::of(2);
    let leave = |own: &'static str| {
        store.run_borrowing(move |tx| {
            Box::pin(async move {
                let on_duty = number(tx.get_raw(&raw("a")).await?.as_deref())
                    + number(tx.get_raw(&raw("b")).await?.as_deref());
                overlap.meet().await;
                if on_duty == 2 { tx.set_raw(&raw(own), b"0") } else { Ok(()) }
            })
        })
    };
    let (a, b) = join(leave("a"), leave("b")).await;
    a.and(b).unwrap();
    assert_eq!(store.count("a").await + store.count("b").await, 1, "exactly one stays");
}

pub(crate) async fn lost_updates_do_not_happen(store: Fixture) {
    let counted = join_all((0..20).map(|_| store.count_up("n"))).await;
    counted.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(store.count("n").await, 20);
}

/// Each takes the next free number after a scan; a scan that missed the other's row would give one twice.
pub(crate) async fn phantoms_are_refused(store: Fixture) {
    let overlap = &Overlap::of(2);
    let take = || {
        store.run_borrowing(|tx| {
            Box::pin(async move {
                let taken = tx.range_raw(all_raw()).await?.len();
                overlap.meet().await;
                tx.set_raw(&raw(&format!("{taken}")), b"taken")?;
                Ok::<_, Error>(taken)
            })
        })
    };
    let (a, b) = join(take(), take()).await;
    assert_ne!(a.unwrap(), b.unwrap());
}

pub(crate) async fn snapshot_reads_do_not_conflict(store: Fixture) {
    let attempts = &AtomicUsize::new(0);
    let store = &store;
    let read = Range::new(raw("a"), raw("b")).snapshot(true);
    let ran = store.run_borrowing(|tx| {
        let read = read.clone();
        Box::pin(async move {
            tx.range_raw(read).await?;
            if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
                store.set("a", b"changed").await;
            }
            tx.set_raw(&raw("c"), b"1")
        })
    });
    ran.await.unwrap();
    // On the engine that refuses for no reason there may be more, but only for no reason.
    assert!(attempts.load(Ordering::SeqCst) <= 3);
    assert_eq!(store.value("c").await.as_deref(), Some(&b"1"[..]));
}

pub(crate) async fn a_snapshot_stands_still(store: Fixture) {
    store.set("a", b"old").await;
    store.set("b", b"old").await;
    let store = &store;
    let seen = store
        .run_borrowing(|tx| {
            Box::pin(async move {
                let a = tx.get_raw(&raw("a")).await?;
                store.set("b", b"new").await;
                Ok::<_, Error>((a, tx.get_raw(&raw("b")).await?, tx.range_raw(all_raw()).await?.len()))
            })
        })
        .await
        .unwrap();
    assert_eq!(seen, (Some("old".into()), Some("old".into()), 2));
    assert_eq!(store.value("b").await.as_deref(), Some(&b"new"[..]));
}

pub(crate) async fn transfers_keep_the_sum(store: Fixture) {
    const ACCOUNTS: u64 = 5;
    for account in 0..ACCOUNTS {
        store.set(&account.to_string(), b"100").await;
    }
    let entropy = Entropy::from_seed(3);
    let transfer = |_| {
        let (from, to) = (entropy.below(ACCOUNTS).to_string(), entropy.below(ACCOUNTS).to_string());
        let amount = entropy.below(30);
        let store = &store;
        async move {
            let (from, to) = (&raw(&from), &raw(&to));
            store
                .run_borrowing(|tx| {
                    Box::pin(async move {
                        let has = number(tx.get_raw(from).await?.as_deref());
                        if has >= amount {
                            tx.set_raw(from, (has - amount).to_string().as_bytes())?;
                            let other = number(tx.get_raw(to).await?.as_deref());
                            tx.set_raw(to, (other + amount).to_string().as_bytes())?;
                        }
                        let rows = tx.range_raw(all_raw()).await?;
                        Ok::<_, Error>(rows.iter().map(|(_, value)| number(Some(value))).sum::<u64>())
                    })
                })
                .await
        }
    };
    for sum in join_all((0..30).map(transfer)).await {
        assert_eq!(sum.unwrap(), 100 * ACCOUNTS, "no transaction sees a half-done transfer");
    }
}

pub(crate) async fn an_error_writes_nothing(store: Fixture) {
    let ran: Result<(), Error> = store
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.set_raw(&raw("a"), b"1")?;
                Err(Error::unavailable("the caller changed its mind"))
            })
        })
        .await;
    assert!(matches!(ran, Err(Error::Unavailable(_))));
    assert_eq!(store.value("a").await, None);
}

/// A closure that turns a retryable failure into something else is rerun all the same.
pub(crate) async fn a_swallowed_conflict_still_reruns(store: Fixture) {
    let (faulty, _, faults) = store.with_faults();
    let (attempts, faults) = (&AtomicUsize::new(0), &faults);
    faults.fail(Some(Error::Conflict));
    let answer = faulty
        .run_borrowing(|tx| {
            Box::pin(async move {
                let attempt = attempts.fetch_add(1, Ordering::SeqCst);
                if attempt == 1 {
                    faults.fail(None);
                }
                let read = tx.get_raw(&raw("a")).await;
                Ok::<_, Error>(read.is_ok())
            })
        })
        .await
        .unwrap();
    assert!(answer, "the answer of an attempt that failed to read must not count");
}

pub(crate) async fn a_removed_row_conflicts(store: Fixture) {
    store.set("a", b"1").await;
    let (attempts, store) = (&AtomicUsize::new(0), &store);
    let seen = store
        .run_borrowing(|tx| {
            Box::pin(async move {
                let seen = tx.get_raw(&raw("a")).await?.is_some();
                if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
                    store.run_borrowing(|tx| Box::pin(async move { tx.clear_raw(&raw("a")) })).await?;
                }
                tx.set_raw(&raw("b"), b"1")?;
                Ok::<_, Error>(seen)
            })
        })
        .await
        .unwrap();
    assert!(!seen, "the attempt that saw the row before it was removed must not commit");
}
