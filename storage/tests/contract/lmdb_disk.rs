//! A disk that is really full: a small tmpfs, which only root may mount. Without that right the tests say so and show nothing, and
//! fail in CI; [`lmdb_full`](crate::lmdb_full) shows the same of a full map.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use aesp_storage::{Error, LmdbOptions, Store};
use tempfile::TempDir;

use crate::fixture::{all_raw, provider, raw};

/// A small file system of the test's own.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one, or says why it can't.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            other => {
                skip(&format!("only root can mount a small disk: {other:?}"));
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes some of the room, or all that is left. Removing the file gives it back.
    fn take(&self, name: &str, megabytes: Option<u32>) -> PathBuf {
        let ballast = self.path().join(name);
        let of = format!("of={}", ballast.display());
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", &of, "bs=4k"]);
        if let Some(megabytes) = megabytes {
            dd.arg(format!("count={}", megabytes * 256));
        }
        let taken = dd.output().unwrap();
        assert_eq!(taken.status.success(), megabytes.is_some(), "{taken:?}");
        ballast
    }
}

/// Says that a test shows nothing here, and why. A developer sees it as skipped; in CI it has failed.
fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {reason}");
    println!("SKIPPED: {reason}");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: an environment may be closing still.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

async fn open(disk: &SmallDisk) -> Store {
    let options = LmdbOptions { map_size_bytes: 64 << 20, ..LmdbOptions::default() };
    let store = Store::lmdb(&disk.path().join("store"), options, provider(disk.path())).await.unwrap();
    store.initialise().await.unwrap();
    store
}

async fn set(store: &Store, name: String, bytes: usize) -> Result<(), Error> {
    let key = &raw(&name);
    store.run_borrowing(|tx| Box::pin(async move { tx.set_raw(key, &vec![1; bytes]) })).await
}

async fn revoke(store: &Store, n: u32) -> Result<(), Error> {
    let key = &raw(&format!("revoked/{n}"));
    let revoked = store.run_borrowing(|tx| {
        Box::pin(async move {
            tx.use_reserve();
            tx.set_raw(key, b"1")
        })
    });
    revoked.await
}

/// Writes until the store is full; returns how many were acknowledged.
async fn fill(store: &Store, from: u32, bytes: usize) -> u32 {
    for n in from.. {
        match set(store, format!("row/{n:06}"), bytes).await {
            Ok(()) => {}
            Err(Error::Full) => return n,
            Err(other) => panic!("a full disk is told as: {other}"),
        }
    }
    unreachable!("the disk is finite")
}

async fn count(store: &Store) -> usize {
    let rows =
        store.run_borrowing(|tx| Box::pin(async move { tx.range_raw(all_raw()).await })).await.unwrap();
    rows.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_revocations_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let ballast = disk.take("ballast", Some(6));
    let store = open(&disk).await;
    let before = fill(&store, 0, 4_000).await;
    assert!(before > 100, "{before}");
    // Nothing of the disk is left for anybody.
    disk.take("rest", None);
    assert!(matches!(set(&store, "more".into(), 4_000).await, Err(Error::Full)));
    for n in 0..200 {
        revoke(&store, n).await.expect("space is kept back for revocations");
    }
    assert_eq!(count(&store).await, before as usize + 200, "something acknowledged is gone");

    // The same after a restart on the full disk.
    drop(store);
    let store = open(&disk).await;
    assert_eq!(count(&store).await, before as usize + 200);
    assert!(matches!(set(&store, "more".into(), 4_000).await, Err(Error::Full)));
    revoke(&store, 200).await.expect("space is kept back for revocations");

    fs::remove_file(ballast).unwrap();
    set(&store, "more".into(), 4_000).await.expect("there is room again");
    assert_eq!(count(&store).await, before as usize + 202);
}

/// Even the reserve ends. What can't be written then is told as full, never as written, and never kills the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_any_room_refuses_and_goes_on_when_there_is_some() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let ballast = disk.take("ballast", Some(6));
    let store = open(&disk).await;
    fill(&store, 0, 4_000).await;
    disk.take("rest", None);
    let mut acknowledged = 0;
    let refusal = loop {
        let key = &raw(&format!("large/{acknowledged:06}"));
        let written = store.run_borrowing(|tx| {
            Box::pin(async move {
                tx.use_reserve();
                tx.set_raw(key, &[1; 50_000])
            })
        });
        match written.await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "the disk is finite");
    };
    assert!(matches!(refusal, Error::Full), "{refusal}");
    let large = count(&store).await;
    fs::remove_file(ballast).unwrap();
    revoke(&store, 0).await.expect("the store goes on");
    assert_eq!(count(&store).await, large + 1);
    let range = all_raw();
    let cleared = store.run_borrowing(|tx| Box::pin(async { tx.clear_range_raw(&range.start, &range.end) }));
    cleared.await.unwrap();
    assert!(fill(&store, 0, 4_000).await > 100, "the space is there again");
}
