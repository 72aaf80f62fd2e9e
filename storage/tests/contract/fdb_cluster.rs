use std::{fs, sync::Arc, time::Duration};

use aesp_storage::{Commit, Engine, Error, FdbEngine, FdbOptions, FdbTls, Mutation, Observed, Store};
use tokio::time::{Instant, timeout};

use crate::fixture::{clear, fdb, fdb_options, provider, raw, within};

/// Everything that can be said about a start without a cluster is said within the time that was given.
#[cfg_attr(not(fdb_cluster), ignore = "AESP_TEST_FDB_CLUSTER names no cluster file")]
#[tokio::test]
async fn a_cluster_that_does_not_answer_is_named_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let cluster_file = folder.path().join("fdb.cluster");
    // A port of the discard service, where nobody listens.
    fs::write(&cluster_file, "nobody:home@127.0.0.1:9\n").unwrap();
    let options = FdbOptions { cluster_file, connect_timeout: Duration::from_secs(2), ..fdb_options() };
    let started = Instant::now();
    let error = refusal(options).await;
    assert!(
        error.contains(
            "the FoundationDB cluster nobody:home (coordinators 127.0.0.1:9) did not answer within 2 s"
        ),
        "{error}"
    );
    assert!(error.contains("--exec status"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[cfg_attr(not(fdb_cluster), ignore = "AESP_TEST_FDB_CLUSTER names no cluster file")]
#[tokio::test]
async fn one_process_has_one_library_and_one_identity() {
    let folder = tempfile::tempdir().unwrap();
    let first = FdbEngine::open(fdb_options()).await;
    assert!(first.is_ok());
    let file = folder.path().join("any.pem");
    fs::write(&file, "").unwrap();
    let tls = FdbTls { certificate: file.clone(), key: file.clone(), ca: file, verify_peers: None };
    let error = refusal(FdbOptions { tls: Some(tls), ..fdb_options() }).await;
    assert!(error.contains("use one process for each"), "{error}");
}

#[tokio::test]
async fn tls_coordinators_ask_for_tls_files() {
    let folder = tempfile::tempdir().unwrap();
    let cluster_file = folder.path().join("fdb.cluster");
    fs::write(&cluster_file, "a:b@127.0.0.1:4500:tls").unwrap();
    let error = refusal(FdbOptions { cluster_file, ..FdbOptions::default() }).await;
    assert!(error.contains("set store.fdb.certificate, store.fdb.key and store.fdb.ca"), "{error}");
}

#[tokio::test]
async fn a_missing_cluster_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cluster_file = folder.path().join("none.cluster");
    let error = refusal(FdbOptions { cluster_file, ..FdbOptions::default() }).await;
    assert!(error.contains("none.cluster: No such file"), "{error}");
}

async fn refusal(options: FdbOptions) -> String {
    match FdbEngine::open(options).await {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

/// A transaction's time limit ends no watch.
#[cfg_attr(not(fdb_cluster), ignore = "AESP_TEST_FDB_CLUSTER names no cluster file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_outlives_its_transaction() {
    let store = fdb().await;
    store.set("a", b"1").await;
    let mut watch = store.watch(&raw("a"));
    let early = timeout(Duration::from_secs(7), &mut watch).await;
    assert!(early.is_err(), "ended without a change: {early:?}");
    store.set("a", b"2").await;
    within(watch).await.unwrap();
    clear(&store).await;
}

/// No change between the call and the cluster's knowledge of it goes unseen.
#[cfg_attr(not(fdb_cluster), ignore = "AESP_TEST_FDB_CLUSTER names no cluster file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_counts_from_the_call() {
    let store = fdb().await;
    for round in 0..50_u8 {
        let watch = store.watch(&raw("a"));
        store.set("a", &[round]).await;
        within(watch).await.unwrap();
    }
    clear(&store).await;
}

#[cfg_attr(not(fdb_cluster), ignore = "AESP_TEST_FDB_CLUSTER names no cluster file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_do_not_meet() {
    let (one, two) = (fdb().await, fdb().await);
    one.set("a", b"mine").await;
    assert_eq!(two.value("a").await, None);
    clear(&two).await;
    assert_eq!(one.value("a").await.unwrap(), b"mine");
    clear(&one).await;
}

/// Two handles are two processes to the cluster: one commits what the other has read.
#[cfg_attr(not(fdb_cluster), ignore = "AESP_TEST_FDB_CLUSTER names no cluster file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_handle_is_seen_and_conflicts() {
    let options = fdb_options();
    let folder = tempfile::tempdir().unwrap();
    let one = Store::fdb(options.clone(), provider(folder.path())).await.unwrap();
    one.initialise().await.unwrap();
    let other = FdbEngine::open(options).await.unwrap();
    let key = raw("a");
    let snapshot = other.snapshot().await.unwrap();
    assert_eq!(snapshot.get(&key).await.unwrap(), None);
    one.run_borrowing(|tx| Box::pin(async move { tx.set_raw(&raw("a"), b"1") })).await.unwrap();
    let observed = vec![Observed::Point { key: key.clone(), value: None }];
    let mutations = vec![Mutation::Set { key: key.clone(), value: "2".into() }];
    let commit = Commit { snapshot: Some(snapshot), observed, mutations, use_reserve: false };
    let lost = other.commit(commit).await;
    assert!(matches!(lost, Err(Error::Conflict)), "{lost:?}");
    assert_eq!(other.snapshot().await.unwrap().get(&key).await.unwrap().unwrap(), "1");
    clear(&one).await;
}

/// FoundationDB counts more towards a transaction than we do; what only it refuses says so.
#[cfg_attr(not(fdb_cluster), ignore = "AESP_TEST_FDB_CLUSTER names no cluster file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_writes_are_too_large_together() {
    let store = fdb().await;
    let engine = Arc::new(FdbEngine::open(fdb_options()).await.unwrap());
    let mutations = (0..200_000_u32).map(|n| Mutation::Clear { key: raw(&format!("{n:030}")) }).collect();
    let refused = engine.commit(Commit { mutations, ..Commit::default() }).await;
    assert!(matches!(refused, Err(Error::TooLarge { what: "transaction", .. })), "{refused:?}");
    clear(&store).await;
}
