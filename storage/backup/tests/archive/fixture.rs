use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aesp_backup::{
    Archive, ArchiveKey, ClusterId, Credentials, Error, Point, Restored, Scope, Shipper, SnapshotInfo,
    SnapshotOptions, SnapshotStep, Snapshotter, Target, Writer,
};
use aesp_proto::TenantId;
use aesp_storage::{
    Commit, Engine, FileKeyProvider, Kind, LmdbEngine, LmdbOptions, Mutation, Range, row_key,
};
use tempfile::TempDir;

pub(crate) const TENANT: TenantId = TenantId::from_bytes([7; 16]);
pub(crate) const LIMIT_BYTES: u64 = 1 << 30;
/// Small, so that a snapshot has many.
pub(crate) const CHUNK: SnapshotOptions = SnapshotOptions { chunk_bytes: 300, bytes_per_second: u64::MAX };

/// A store, an archive in a folder, and the key of both.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) engine: LmdbEngine,
}

pub(crate) fn options() -> LmdbOptions {
    LmdbOptions { map_size_bytes: 256 << 20, ..LmdbOptions::default() }
}

pub(crate) fn cluster() -> ClusterId {
    ClusterId("cluster-1".into())
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::of(options()).await
    }

    pub(crate) async fn of(options: LmdbOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = LmdbEngine::open(&folder.path().join("store"), options).await.unwrap();
        Self { folder, engine }
    }

    pub(crate) fn target(&self) -> Target {
        let url = format!("file://{}", self.folder.path().join("archive").display());
        Target::parse(&url, Credentials::default()).unwrap()
    }

    pub(crate) fn key(&self) -> ArchiveKey {
        key_at(&self.folder.path().join("master.key"))
    }

    pub(crate) async fn archive(&self) -> Archive {
        Archive::open(&self.target(), &cluster(), self.key()).await.unwrap()
    }

    pub(crate) async fn writer(&self) -> Writer {
        self.archive().await.claim(&self.engine, LIMIT_BYTES).await.unwrap()
    }

    /// Returns the files of the archive whose names contain `part`, in order.
    pub(crate) fn files(&self, part: &str) -> Vec<PathBuf> {
        let mut out = Vec::new();
        let mut folders = vec![self.folder.path().join("archive")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_str().unwrap().contains(part) {
                    out.push(path);
                }
            }
        }
        out.sort();
        out
    }

    pub(crate) async fn set(&self, name: &str, value: &[u8]) -> u64 {
        commit(&self.engine, vec![set(name, value)]).await
    }
}

pub(crate) fn key_at(path: &Path) -> ArchiveKey {
    let provider = FileKeyProvider::open(path).or_else(|_| FileKeyProvider::create(path)).unwrap();
    ArchiveKey { provider: Arc::new(provider), description: "file:master.key".into() }
}

pub(crate) fn raw(name: &str) -> Vec<u8> {
    row_key(TENANT, Kind::SESSION, name.as_bytes())
}

pub(crate) fn set(name: &str, value: &[u8]) -> Mutation {
    Mutation::Set { key: raw(name), value: value.to_vec().into() }
}

/// Commits, and returns the version that it made.
pub(crate) async fn commit(engine: &LmdbEngine, mutations: Vec<Mutation>) -> u64 {
    let stamp = engine.commit(Commit { mutations, ..Commit::default() }).await.unwrap();
    u64::from_be_bytes(stamp[..8].try_into().unwrap())
}

/// Keys and values, in order.
pub(crate) type Rows = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) async fn rows(engine: &LmdbEngine) -> Rows {
    let snapshot = engine.snapshot().await.unwrap();
    let all = snapshot.range(&Range::new([0], vec![0xFF; 600])).await.unwrap();
    all.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Takes a whole snapshot.
pub(crate) async fn snapshot(writer: &Writer) -> Result<SnapshotInfo, Error> {
    let mut snapshotter = Snapshotter::resume(writer.clone(), CHUNK).await?;
    loop {
        if let SnapshotStep::Complete(info) = snapshotter.step().await? {
            return Ok(info);
        }
    }
}

/// Takes a snapshot and everything to the archive.
pub(crate) async fn back_up(writer: &Writer) -> SnapshotInfo {
    let info = snapshot(writer).await.unwrap();
    Shipper::new(writer.clone()).step().await.unwrap();
    info
}

/// Restores into a new folder; returns its rows and what was said of it.
pub(crate) async fn restored(archive: &Archive, at: Point) -> Result<(Rows, Restored), Error> {
    let folder = tempfile::tempdir().unwrap();
    let engine = LmdbEngine::open(folder.path(), options()).await.unwrap();
    let (archive, into) = (archive.clone(), engine.clone());
    // As a task, which a node makes of it.
    let task = async move { archive.restore(at, Scope::Everything, &into, &mut |_| {}).await };
    let done = tokio::spawn(task).await.unwrap()?;
    Ok((rows(&engine).await, done))
}
