use std::{
    future::Future,
    ops::Deref,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aesp_proto::TenantId;
use aesp_storage::{
    Error, FdbOptions, FileKeyProvider, Kind, LmdbOptions, MAX_KEY_BYTES, MemoryOptions, Range, Store,
    row_key,
};
use tempfile::TempDir;

/// A store and the folder that it may live in.
pub(crate) struct Fixture {
    store: Store,
    pub(crate) folder: TempDir,
}

impl Deref for Fixture {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

pub(crate) const TENANT: TenantId = TenantId::from_bytes([7; 16]);
pub(crate) const OTHER: TenantId = TenantId::from_bytes([8; 16]);

pub(crate) async fn memory() -> Fixture {
    with_memory(MemoryOptions::default()).await
}

pub(crate) async fn memory_like_fdb() -> Fixture {
    let mut options = MemoryOptions::fdb_like();
    if let (Some(turbulence), Some(seed)) = (&mut options.turbulence, std::env::var("AESP_SEED").ok()) {
        turbulence.seed = seed.parse().unwrap();
    }
    println!("AESP_SEED={}", options.turbulence.as_ref().unwrap().seed);
    with_memory(options).await
}

async fn with_memory(options: MemoryOptions) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::memory(options, provider(folder.path()));
    ready(store, folder).await
}

pub(crate) async fn lmdb() -> Fixture {
    lmdb_of(LmdbOptions { map_size_bytes: 1 << 30, ..LmdbOptions::default() }).await
}

pub(crate) async fn lmdb_of(options: LmdbOptions) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::lmdb(&folder.path().join("store"), options, provider(folder.path())).await.unwrap();
    ready(store, folder).await
}

/// The FoundationDB cluster of the tests, under a prefix that nothing else uses.
pub(crate) fn fdb_options() -> FdbOptions {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let began = aesp_proto::Clock::now(&aesp_proto::SystemClock).0;
    let cluster_file =
        std::env::var_os("AESP_TEST_FDB_CLUSTER").expect("AESP_TEST_FDB_CLUSTER names a cluster file");
    FdbOptions {
        cluster_file: cluster_file.into(),
        library: std::env::var_os("AESP_TEST_FDB_LIBRARY").map(Into::into),
        prefix: format!("test-{began:x}-{}-{number}", std::process::id()),
        ..FdbOptions::default()
    }
}

pub(crate) async fn fdb() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::fdb(fdb_options(), provider(folder.path())).await.unwrap();
    ready(store, folder).await
}

/// Removes everything from a store.
pub(crate) async fn clear(store: &Store) {
    let end = &vec![u8::MAX; MAX_KEY_BYTES + 1];
    store.run_borrowing(|tx| Box::pin(async move { tx.clear_range_raw(&[0], end) })).await.unwrap();
}

async fn ready(store: Store, folder: TempDir) -> Fixture {
    store.initialise().await.unwrap();
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.create_tenant_keys(TENANT).await?;
                tx.create_tenant_keys(OTHER).await
            })
        })
        .await
        .unwrap();
    Fixture { store, folder }
}

/// The master key of the folder.
pub(crate) fn provider(folder: &Path) -> Arc<FileKeyProvider> {
    let file = folder.join("master.key");
    Arc::new(FileKeyProvider::open(&file).or_else(|_| FileKeyProvider::create(&file)).unwrap())
}

/// A raw key in a place that nothing else uses.
pub(crate) fn raw(name: &str) -> Vec<u8> {
    row_key(TENANT, Kind::SESSION, name.as_bytes())
}

pub(crate) fn all_raw() -> Range {
    Range::prefix(&raw(""))
}

impl Fixture {
    pub(crate) async fn set(&self, name: &str, value: &[u8]) {
        let key = &raw(name);
        self.run_borrowing(|tx| Box::pin(async move { tx.set_raw(key, value) })).await.unwrap();
    }

    pub(crate) async fn value(&self, name: &str) -> Option<Vec<u8>> {
        let key = &raw(name);
        let value = self.run_borrowing(|tx| Box::pin(async move { tx.get_raw(key).await })).await.unwrap();
        value.map(Vec::from)
    }

    /// Adds one to a decimal number by reading and writing it.
    pub(crate) async fn count_up(&self, name: &str) -> Result<(), Error> {
        let key = &raw(name);
        self.run_borrowing(|tx| {
            Box::pin(async move {
                let next = number(tx.get_raw(key).await?.as_deref()) + 1;
                tx.set_raw(key, next.to_string().as_bytes())
            })
        })
        .await
    }

    pub(crate) async fn count(&self, name: &str) -> u64 {
        number(self.value(name).await.as_deref())
    }
}

pub(crate) fn number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |text| std::str::from_utf8(text).unwrap().parse().unwrap())
}

/// Makes two transactions overlap: both have read before either commits. Reruns pass at once.
pub(crate) struct Overlap {
    barrier: tokio::sync::Barrier,
    passes: AtomicUsize,
}

impl Overlap {
    pub(crate) fn of(parties: usize) -> Self {
        Self { barrier: tokio::sync::Barrier::new(parties), passes: AtomicUsize::new(parties) }
    }

    pub(crate) async fn meet(&self) {
        let first =
            self.passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if first {
            self.barrier.wait().await;
        }
    }
}

/// Waits for something that must happen.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("did not happen in time")
}
