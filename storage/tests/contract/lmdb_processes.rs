use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use aesp_storage::{Error, LmdbOptions, Range, Store};
use heed::EnvOpenOptions;

use crate::fixture::{Fixture, lmdb, number, provider, raw, within};

const TASK: &str = "AESP_STORE_TEST_TASK";
const FOLDER: &str = "AESP_STORE_TEST_FOLDER";

/// Starts this test program again as another process of the store.
fn start(task: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lmdb_processes::what_the_other_process_does", "--nocapture"])
        .env(TASK, task)
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(mut child: Child) {
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_process_does() {
    let (Ok(task), Ok(folder)) = (std::env::var(TASK), std::env::var(FOLDER)) else { return };
    let folder = Path::new(&folder);
    if task == "hold the lock" {
        return hold_the_lock(&folder.join("store"));
    }
    let options = LmdbOptions { map_size_bytes: 1 << 30, ..LmdbOptions::default() };
    let store = Store::lmdb(&folder.join("store"), options, provider(folder)).await.unwrap();
    store.initialise().await.unwrap();
    match task.as_str() {
        "append" => {
            for _ in 0..40 {
                append(&store).await.unwrap();
            }
        }
        "change" => {
            store
                .run_borrowing(|tx| Box::pin(async move { tx.set_raw(&raw("watched"), b"changed") }))
                .await
                .unwrap();
        }
        "write for ever" => write_for_ever(&store).await,
        other => panic!("{other}"),
    }
}

/// Counts up and appends the number to the log.
async fn append(store: &Store) -> Result<(), Error> {
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                let next = number(tx.get_raw(&raw("n")).await?.as_deref()) + 1;
                tx.set_raw(&raw("n"), next.to_string().as_bytes())?;
                tx.set_versionstamped_key(&raw("log"), b"", next.to_string().as_bytes())
            })
        })
        .await
}

async fn log(store: &Fixture) -> Vec<u64> {
    let rows = store
        .run_borrowing(|tx| Box::pin(async move { tx.range_raw(Range::prefix(&raw("log"))).await }))
        .await
        .unwrap();
    rows.iter().map(|(_, value)| number(Some(value))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_write_one_log_in_commit_order() {
    let store = lmdb().await;
    let children: Vec<_> = (0..3).map(|_| start("append", store.folder.path())).collect();
    for _ in 0..40 {
        append(&store).await.unwrap();
    }
    children.into_iter().for_each(finish);
    assert_eq!(
        log(&store).await,
        (1..=160).collect::<Vec<_>>(),
        "nothing lost, and stamps grow across processes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_another_process_wakes() {
    let store = lmdb().await;
    let watch = store.watch(&raw("watched"));
    let child = start("change", store.folder.path());
    within(watch).await.unwrap();
    assert_eq!(store.value("watched").await.unwrap(), b"changed");
    finish(child);
}

/// Writes two rows a transaction and says which it has committed.
async fn write_for_ever(store: &Store) {
    for n in 0.. {
        let (left, right) = (&raw(&format!("left/{n:06}")), &raw(&format!("right/{n:06}")));
        let write = store.run_borrowing(|tx| {
            Box::pin(async move {
                tx.set_raw(left, &[1; 500])?;
                tx.set_raw(right, &[2; 500])
            })
        });
        write.await.unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "\ncommitted {n}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_it_writes_loses_and_blocks_nothing() {
    let store = lmdb().await;
    for round in 1..=3_u64 {
        let mut child = start("write for ever", store.folder.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let wanted = format!("committed {}", round * 7);
        assert!(lines.any(|line| line == wanted));
        child.kill().unwrap();
        // What it still said before it died counts as well.
        let last =
            lines.filter_map(|line| line.strip_prefix("committed ").and_then(|n| n.parse().ok())).last();
        child.wait().unwrap();
        let acknowledged = last.unwrap_or(round * 7);
        within(store.count_up("after")).await.unwrap();
        assert_eq!(store.count("after").await, round, "the dead process blocks nobody");
        let rows = |side: &'static str| {
            let range = Range::prefix(&raw(side));
            let store = &store;
            async move {
                let range = &range;
                store
                    .run_borrowing(|tx| Box::pin(async move { tx.range_raw(range.clone()).await }))
                    .await
                    .unwrap()
                    .len() as u64
            }
        };
        let (left, right) = (rows("left/").await, rows("right/").await);
        assert_eq!(left, right, "no half of a transaction");
        assert!(left > acknowledged, "{left} rows, {acknowledged} acknowledged");
    }
}

/// Takes the write lock as a frozen process would, says so, and ends only when it is killed.
#[expect(unsafe_code, reason = "plays a process that stops in the middle of a write")]
fn hold_the_lock(path: &Path) {
    let mut options = EnvOpenOptions::new();
    options.map_size(1 << 30).max_dbs(1).max_readers(1024);
    // SAFETY: only LMDB changes the file.
    let env = unsafe { options.open(path).unwrap() };
    let _txn = env.write_txn().unwrap();
    println!("\nlocked");
    std::io::stdout().flush().unwrap();
    // Nobody writes to it: this waits for the end of the process.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_process_makes_the_store_unavailable_and_nothing_worse() {
    let store = lmdb().await;
    let mut child = start("hold the lock", store.folder.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "locked"));
    let refused = store.run(|tx| Box::pin(async move { tx.set_raw(&raw("a"), b"1") })).await;
    // Definitely not written: the commit was taken back before the writer had it.
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(store.value("b").await, None, "reading goes on");
    child.kill().unwrap();
    child.wait().unwrap();
    within(store.count_up("after")).await.unwrap();
}
