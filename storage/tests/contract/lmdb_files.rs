use std::{fs, path::Path};

use aesp_storage::{Error, LmdbEngine, LmdbOptions, Store};
use heed::{CommitOrAbort, EnvOpenOptions, types::Bytes};

use crate::{
    fixture::{TENANT, lmdb, provider, raw},
    rows::Note,
};

async fn open(path: &Path) -> Result<LmdbEngine, Error> {
    LmdbEngine::open(path, LmdbOptions::default()).await
}

fn is_damaged(opened: Result<LmdbEngine, Error>) -> bool {
    match opened {
        Err(Error::Damaged { remedy, .. }) => remedy.contains("backup"),
        Err(other) => panic!("{other}"),
        Ok(_) => false,
    }
}

#[tokio::test]
async fn something_else_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    for garbage in [vec![b'x'; 100], vec![b'x'; 100_000], vec![0; 8192]] {
        fs::write(folder.path().join("data.mdb"), garbage).unwrap();
        assert!(is_damaged(open(folder.path()).await));
    }
}

#[tokio::test]
#[expect(unsafe_code, reason = "plays another program that uses LMDB")]
async fn the_environment_of_another_program_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = EnvOpenOptions::new();
    options.map_size(1 << 20).max_dbs(1);
    // SAFETY: nobody else knows the folder.
    let env = unsafe { options.open(folder.path()).unwrap() };
    let txn = env.write_txn().unwrap();
    env.create_databases_and_commit(txn, |open, txn| {
        open.create_database::<Bytes, Bytes>(txn, Some("foreign")).map(CommitOrAbort::<_, ()>::Commit)
    })
    .unwrap();
    env.prepare_for_closing().wait();
    assert!(is_damaged(open(folder.path()).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_store_is_told() {
    let store = lmdb().await;
    for n in 0..50 {
        store.set(&n.to_string(), &[1; 3000]).await;
    }
    let copy = tempfile::tempdir().unwrap();
    let original = fs::read(store.folder.path().join("store/data.mdb")).unwrap();
    let cut = &original[..original.len() / 4];
    fs::write(copy.path().join("data.mdb"), cut).unwrap();
    assert!(is_damaged(open(copy.path()).await));
    assert_eq!(fs::read(copy.path().join("data.mdb")).unwrap(), cut, "what is damaged was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_of_one_process_are_one_and_reopen() {
    let first = lmdb().await;
    let path = first.folder.path().join("store");
    let second = Store::lmdb(&path, LmdbOptions::default(), provider(first.folder.path())).await.unwrap();
    let watch = first.watch(&raw("a"));
    second.run_borrowing(|tx| Box::pin(async move { tx.set_raw(&raw("a"), b"1") })).await.unwrap();
    watch.await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("master.key");
    fs::copy(first.folder.path().join("master.key"), &key).unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    fs::copy(path.join("data.mdb"), store.join("data.mdb")).unwrap();
    for _ in 0..3 {
        // Closed and opened again at once.
        let reopened = Store::lmdb(&store, LmdbOptions::default(), provider(folder.path())).await.unwrap();
        reopened.initialise().await.unwrap();
        let value =
            reopened.run_borrowing(|tx| Box::pin(async move { tx.get_raw(&raw("a")).await })).await.unwrap();
        assert_eq!(value.unwrap(), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_sealed_stands_in_the_file() {
    const CANARY: &str = "canary-7f3a-the-secret";
    let store = lmdb().await;
    let write = store.run_borrowing(|tx| {
        Box::pin(async move {
            for n in 0..20 {
                let text = format!("{CANARY} {}", "x".repeat(n * 20_000));
                let name = tx.blind(TENANT, Note::KIND_OF_NAME, CANARY).await?;
                tx.set_raw(&raw("index"), &name.0)?;
                tx.put(TENANT, &n.to_string(), &Note { text }).await?;
            }
            Ok::<_, Error>(())
        })
    });
    write.await.unwrap();
    let master = fs::read(store.folder.path().join("master.key")).unwrap();
    let file = fs::read(store.folder.path().join("store/data.mdb")).unwrap();
    let contains = |needle: &[u8]| file.windows(needle.len()).any(|part| part == needle);
    assert!(!contains(CANARY.as_bytes()));
    assert!(!contains(&master));
    assert!(contains(b"aesp-store-1"), "this is the file that was meant");
}
