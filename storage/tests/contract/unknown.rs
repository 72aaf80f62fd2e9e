use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aesp_proto::{Entropy, ManualClock, TenantId, Timestamp};
use aesp_storage::{
    Error, Kind, MemoryEngine, MemoryOptions, Range, Store, Turbulence, UnknownCommit, row_key,
};
use futures::future::join_all;

use crate::fixture::{Fixture, memory, number, provider, raw};

async fn count_up(store: &Store) -> Result<usize, Error> {
    let attempts = &AtomicUsize::new(0);
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                attempts.fetch_add(1, Ordering::SeqCst);
                let next = number(tx.get_raw(&raw("n")).await?.as_deref()) + 1;
                tx.set_raw(&raw("n"), next.to_string().as_bytes())
            })
        })
        .await?;
    Ok(attempts.load(Ordering::SeqCst))
}

pub(crate) async fn applied_once(store: Fixture) {
    let (faulty, _, faults) = store.with_faults();
    faults.unknown(UnknownCommit::Applied);
    count_up(&faulty).await.unwrap();
    assert_eq!(store.count("n").await, 1);
}

pub(crate) async fn lost_commits_are_made_again(store: Fixture) {
    let (faulty, _, faults) = store.with_faults();
    faults.unknown(UnknownCommit::NotApplied);
    // The resolver's own commit may end unknown, too.
    faults.unknown(UnknownCommit::Applied);
    faults.unknown(UnknownCommit::NotApplied);
    let attempts = count_up(&faulty).await.unwrap();
    assert!(attempts >= 2);
    assert_eq!(store.count("n").await, 1);
}

/// Commits that end unknown both ways, and conflicts without a cause.
pub(crate) async fn turbulence_loses_and_doubles_nothing(store: Fixture) {
    let (faulty, _, faults) = store.with_faults();
    let turbulence = Turbulence {
        read: Duration::from_millis(1),
        commit: Duration::ZERO,
        spurious_conflict_one_in: 4,
        unknown_commit_one_in: 3,
        seed: 5,
    };
    faults.turbulence(Some(turbulence));
    let mut attempts = 0;
    for _ in 0..30 {
        attempts += count_up(&faulty).await.unwrap();
    }
    assert_eq!(store.count("n").await, 30);
    assert!(attempts > 30, "nothing was turbulent");
    faults.turbulence(None);
    assert_eq!(count_up(&faulty).await.unwrap(), 1);
}

/// The commit is still on its way when it is looked up, and arrives after it was made again.
pub(crate) async fn a_late_commit_loses(store: Fixture) {
    let (faulty, engine, faults) = store.with_faults();
    faults.unknown(UnknownCommit::Late);
    let blind = faulty.run_borrowing(|tx| Box::pin(async move { tx.atomic_add(&raw("m"), 1) }));
    blind.await.unwrap();
    let delivered = engine.deliver_late().await;
    assert_eq!(delivered.len(), 1);
    assert!(delivered[0].is_err(), "{delivered:?}");
    assert_eq!(store.value("m").await.unwrap(), 1_i64.to_le_bytes());
}

async fn requests(store: &Store) -> usize {
    let range = Range::prefix(&row_key(TenantId::PLATFORM, Kind::REQUEST, &[]));
    let range = &range;
    store.run_borrowing(|tx| Box::pin(async move { tx.range_raw(range.clone()).await })).await.unwrap().len()
}

pub(crate) async fn old_requests_expire(store: Fixture) {
    for _ in 0..3 {
        store.count_up("n").await.unwrap();
    }
    let before = requests(&store).await;
    assert!(before >= 3, "a transaction that writes leaves its name");
    store.expire_requests(Duration::from_secs(3600)).await.unwrap();
    assert!(requests(&store).await >= before, "young names stay");
}

/// A closure that turns an outage into success must not commit a half.
pub(crate) async fn failures_are_remembered(store: Fixture) {
    let (faulty, _, faults) = store.with_faults();
    let faults = &faults;
    let ran: Result<(), Error> = faulty
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.set_raw(&raw("a"), b"half")?;
                faults.fail(Some(Error::unavailable("the disk is on fire")));
                let read = tx.get_raw(&raw("b")).await;
                faults.fail(None);
                assert!(read.is_err());
                Ok(())
            })
        })
        .await;
    assert!(matches!(ran, Err(Error::Unavailable(_))), "{ran:?}");
    assert_eq!(store.value("a").await, None);
}

#[tokio::test(start_paused = true)]
async fn old_names_are_removed_in_pieces() {
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let engine = Arc::new(MemoryEngine::new(MemoryOptions::default()));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(engine, provider(folder.path()), clock.clone(), Entropy::from_seed(1));
    for _ in 0..10_050 {
        store.run(|tx| Box::pin(async move { tx.atomic_add(&raw("n"), 1) })).await.unwrap();
    }
    clock.advance(Duration::from_secs(300));
    store.run(|tx| Box::pin(async move { tx.atomic_add(&raw("n"), 1) })).await.unwrap();
    store.expire_requests(Duration::from_secs(120)).await.unwrap();
    assert!(requests(&store).await < 10, "only the young ones and the janitor's own");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_store_times_out_and_comes_back() {
    let store = memory().await;
    let (faulty, _, faults) = store.with_faults();
    faults.stall(true);
    let stalled = faulty.run(|tx| Box::pin(async move { tx.get_raw(&raw("a")).await })).await;
    assert!(matches!(stalled, Err(Error::Timeout)));
    faults.stall(false);
    faulty.run(|tx| Box::pin(async move { tx.set_raw(&raw("a"), b"1") })).await.unwrap();
}

/// As long as nobody can tell what became of the commit, the caller must not be told that it failed.
#[tokio::test(start_paused = true)]
async fn an_outage_after_the_commit_leaves_it_unknown() {
    let store = memory().await;
    let (faulty, _, faults) = store.with_faults();
    faults.unknown(UnknownCommit::Applied);
    let faults = &faults;
    let ran: Result<(), Error> = faulty
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.set_raw(&raw("a"), b"1")?;
                faults.fail_reads(Some(Error::unavailable("away")));
                Ok(())
            })
        })
        .await;
    assert!(matches!(ran, Err(Error::CommitUnknown)), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_counted_twice_in_a_storm() {
    let turbulence = Turbulence {
        spurious_conflict_one_in: 4,
        unknown_commit_one_in: 3,
        seed: 5,
        ..Turbulence::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::memory(MemoryOptions { turbulence: Some(turbulence) }, provider(folder.path()));
    let counted = join_all((0..30).map(|_| count_up(&store))).await;
    let counted = counted.into_iter().filter(Result::is_ok).count();
    let blind = (0..200).map(|_| store.run(|tx| Box::pin(async move { tx.atomic_add(&raw("m"), 1) })));
    join_all(blind).await.into_iter().collect::<Result<Vec<()>, Error>>().unwrap();
    let read =
        |name: &'static str| store.run(move |tx| Box::pin(async move { tx.get_raw(&raw(name)).await }));
    assert_eq!(number(read("n").await.unwrap().as_deref()), counted as u64);
    assert_eq!(read("m").await.unwrap().unwrap(), 200_i64.to_le_bytes()[..]);
}
