use std::{fs, path::Path};

use aesp_backup::{
    Archive, ClusterId, Credentials, Error, Point, Scope, Shipper, SnapshotInfo, Target, Version,
};
use aesp_proto::Entropy;
use aesp_storage::LmdbEngine;

use crate::fixture::{Fixture, LIMIT_BYTES, back_up, cluster, key_at, options, restored, snapshot};

/// An archive with a snapshot and segments before and after it.
async fn archive() -> (Fixture, SnapshotInfo) {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    for n in 0..12_u8 {
        fixture.set(&n.to_string(), &[n; 100]).await;
        if n % 3 == 2 {
            Shipper::new(writer.clone()).step().await.unwrap();
        }
        if n == 5 {
            snapshot(&writer).await.unwrap();
        }
    }
    let info = fixture.archive().await.list().await.unwrap().remove(0);
    (fixture, info)
}

async fn restore(fixture: &Fixture) -> Error {
    restored(&fixture.archive().await, Point::Latest).await.map(|_| ()).unwrap_err()
}

/// Makes sure that both the verification and the restore say so.
async fn is_damaged(fixture: &Fixture, info: &SnapshotInfo) {
    let verified = fixture.archive().await.verify(info.id, &mut |_| {}).await;
    let restored = restore(fixture).await;
    for error in [verified.unwrap_err(), restored] {
        assert!(matches!(error, Error::Damaged { .. } | Error::Missing { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_and_cut_off_objects_are_found() {
    let (fixture, info) = archive().await;
    fixture.archive().await.verify(info.id, &mut |_| {}).await.unwrap();
    let segments = fixture.files("segments");
    for path in [&fixture.files("chunks")[0], &segments[segments.len() - 2]] {
        let whole = fs::read(path).unwrap();
        for place in [0, 9, whole.len() / 2, whole.len() - 1] {
            let mut altered = whole.clone();
            altered[place] ^= 1;
            fs::write(path, &altered).unwrap();
            let verified = fixture.archive().await.verify(info.id, &mut |_| {}).await;
            assert!(verified.is_err(), "byte {place} of {} was altered", path.display());
        }
        for length in [0, 20, whole.len() / 2, whole.len() - 1] {
            fs::write(path, &whole[..length]).unwrap();
            is_damaged(&fixture, &info).await;
        }
        fs::write(path, whole).unwrap();
    }
    fixture.archive().await.verify(info.id, &mut |_| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_swapped_and_doubled_segments_are_found() {
    let (fixture, info) = archive().await;
    let segments = fixture.files("segments");
    let (one, other) = (&segments[segments.len() - 3], &segments[segments.len() - 2]);
    let (first, second) = (fs::read(one).unwrap(), fs::read(other).unwrap());
    fs::remove_file(other).unwrap();
    is_damaged(&fixture, &info).await;
    fs::write(other, &first).unwrap();
    is_damaged(&fixture, &info).await;
    fs::write(one, &second).unwrap();
    is_damaged(&fixture, &info).await;
    fs::write(one, first).unwrap();
    fs::write(other, second).unwrap();
    fixture.archive().await.verify(info.id, &mut |_| {}).await.unwrap();
    // Without the end, what is left can be restored, and the list says up to where.
    let end = fixture.archive().await.info().await.unwrap().lines[0].to;
    fs::write(segments.last().unwrap(), b"nonsense").unwrap();
    let line = fixture.archive().await.info().await.unwrap().lines.remove(0);
    assert!(line.to < end && line.broken.is_some());
    assert!(fixture.archive().await.verify(info.id, &mut |_| {}).await.is_err());
    let (_, done) = restored(&fixture.archive().await, Point::Latest).await.unwrap();
    assert!(done.version <= line.to);
    let beyond = restored(&fixture.archive().await, Point::Version(end)).await;
    assert!(matches!(beyond, Err(Error::BeyondEnd { .. })));
    // The broken line is left alone; backups go on in another.
    let writer = fixture.writer().await;
    assert_eq!(writer.line().0, 2);
    back_up(&writer).await;
    restored(&fixture.archive().await, Point::Latest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_chunk_or_manifest_is_found() {
    let (fixture, info) = archive().await;
    let chunk = &fixture.files("chunks")[1];
    let whole = fs::read(chunk).unwrap();
    fs::remove_file(chunk).unwrap();
    is_damaged(&fixture, &info).await;
    fs::write(chunk, whole).unwrap();
    fs::remove_file(&fixture.files("manifest")[0]).unwrap();
    assert!(matches!(restore(&fixture).await, Error::NoSnapshot));
    let verified = fixture.archive().await.verify(info.id, &mut |_| {}).await;
    assert!(matches!(verified, Err(Error::NoSuchSnapshot(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_key_or_format_is_told() {
    let (fixture, _) = archive().await;
    let other = ClusterId("cluster-2".into());
    let opened = Archive::open(&fixture.target(), &other, fixture.key()).await;
    assert!(matches!(opened, Err(Error::OtherCluster { .. })), "{opened:?}");
    let wrong = key_at(&fixture.folder.path().join("other.key"));
    let opened = Archive::find(&fixture.target(), None, wrong).await;
    let Err(error @ Error::BackupKey { .. }) = opened else { panic!("{opened:?}") };
    assert!(error.to_string().contains("file:master.key"), "it says which provider is needed: {error}");
    // An object of another cluster under a name of this one.
    let theirs = Fixture::new().await;
    let key = fixture.key();
    let archive = Archive::open(&theirs.target(), &other, key).await.unwrap();
    back_up(&archive.claim(&theirs.engine, LIMIT_BYTES).await.unwrap()).await;
    let chunk = &fixture.files("chunks")[0];
    let whole = fs::read(chunk).unwrap();
    fs::copy(&theirs.files("chunks")[0], chunk).unwrap();
    assert!(matches!(restore(&fixture).await, Error::OtherCluster { .. }));
    let mut newer = whole.clone();
    newer[9] = 2;
    fs::write(chunk, newer).unwrap();
    assert!(matches!(restore(&fixture).await, Error::NewerFormat { found: 2, known: 1, .. }));
    let nowhere =
        Target::parse(&format!("file://{}/none", fixture.folder.path().display()), Credentials::default());
    let found = Archive::find(&nowhere.unwrap(), Some(&cluster()), fixture.key()).await;
    assert!(matches!(found, Err(Error::NoArchive(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_store_is_restored_into() {
    let (fixture, info) = archive().await;
    let archive = fixture.archive().await;
    let refused = archive.restore(Point::Latest, Scope::Everything, &fixture.engine, &mut |_| {}).await;
    assert!(matches!(refused, Err(Error::NotEmpty)));
    let early = restored(&archive, Point::Version(Version(info.from.0 - 1))).await;
    assert!(matches!(early, Err(Error::BeforeBegin(from)) if from == info.from));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_restore_is_no_store() {
    let (fixture, _) = archive().await;
    let segments = fixture.files("segments");
    let broken = &segments[segments.len() - 2];
    let whole = fs::read(broken).unwrap();
    fs::write(broken, &whole[..whole.len() - 1]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = fixture.archive().await;
    let engine = LmdbEngine::open(folder.path(), options()).await.unwrap();
    archive.restore(Point::Latest, Scope::Everything, &engine, &mut |_| {}).await.unwrap_err();
    let again = archive.restore(Point::Latest, Scope::Everything, &engine, &mut |_| {}).await;
    assert!(matches!(again, Err(Error::NotEmpty)));
    drop(engine);
    let opened = LmdbEngine::open(folder.path(), options()).await.map(|_| ());
    assert!(matches!(opened, Err(aesp_storage::Error::Damaged { .. })), "{opened:?}");
}

/// A file system of 1 MB: the snapshot runs into its end, waits, and goes on when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_during_a_snapshot() {
    let Some(disk) = SmallDisk::mount(Path::new("/tmp")) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: no tmpfs can be mounted");
        return println!("SKIPPED: only root can mount a tmpfs");
    };
    let fixture = Fixture::new().await;
    for n in 0..40 {
        // What does not shrink.
        let entropy = Entropy::from_seed(n);
        let noise: Vec<u8> = std::iter::repeat_with(|| entropy.bytes()).flatten().take(30_000).collect();
        fixture.set(&format!("{n:02}"), &noise).await;
    }
    let url = format!("file://{}", disk.0.path().join("archive").display());
    let target = Target::parse(&url, Credentials::default()).unwrap();
    let archive = Archive::open(&target, &cluster(), fixture.key()).await.unwrap();
    let writer = archive.claim(&fixture.engine, LIMIT_BYTES).await.unwrap();
    fs::write(disk.0.path().join("other"), vec![0; 700_000]).unwrap();
    let full = snapshot(&writer).await;
    assert!(matches!(full, Err(Error::Full)), "{full:?}");
    fs::remove_file(disk.0.path().join("other")).unwrap();
    let info = back_up(&writer).await;
    assert_eq!(info.rows, 40);
    archive.verify(info.id, &mut |_| {}).await.unwrap();
}

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(below: &Path) -> Option<Self> {
        let folder = tempfile::tempdir_in(below).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1600k", "tmpfs"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|done| done.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg(self.0.path()).output().ok();
    }
}
