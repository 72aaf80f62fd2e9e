use std::{
    io::Cursor,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_proto::{Clock, Entropy, ManualClock, SystemClock, TenantId, Timestamp};
use aesp_storage::{
    Commit, Engine, FileKeyProvider, KeyProvider, Kind, LmdbEngine, LmdbOptions, MemoryEngine, MemoryOptions,
    Mutation, Snapshot, Store, Versionstamp, Watch, row_key,
};
use async_trait::async_trait;
use tempfile::TempDir;

use super::*;
use crate::{ArchiveKey, ClusterId, rebirth};

const TENANT: TenantId = TenantId::from_bytes([7; 16]);
const CHANGED: [u8; 18] = [9; 18];

struct World {
    folder: TempDir,
    engine: Arc<dyn Engine>,
    store: Store,
    key: Arc<FileKeyProvider>,
}

fn on(engine: &Arc<dyn Engine>, key: &Arc<FileKeyProvider>) -> Store {
    let provider = Arc::clone(key) as Arc<dyn KeyProvider>;
    Store::new(Arc::clone(engine), provider, Arc::new(SystemClock), Entropy::from_seed(3))
}

fn memory() -> Arc<dyn Engine> {
    Arc::new(MemoryEngine::new(MemoryOptions::default()))
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = Arc::new(FileKeyProvider::create(&folder.path().join("master.key")).unwrap());
        let options = LmdbOptions { map_size_bytes: 64 << 20, ..LmdbOptions::default() };
        let engine: Arc<dyn Engine> =
            Arc::new(LmdbEngine::open(&folder.path().join("store"), options).await.unwrap());
        let store = on(&engine, &key);
        store.initialise().await.unwrap();
        store
            .run(|tx| {
                Box::pin(async move {
                    tx.create_tenant_keys(TENANT).await?;
                    tx.bump_revision(TENANT).await?;
                    tx.set_raw(&row_key(TenantId::PLATFORM, Kind::NODE, &[1; 8]), b"living")?;
                    let keys = tx.tenant_keys(TENANT).await?;
                    for n in 0..3_000_u32 {
                        let key = row_key(TENANT, Kind::SESSION, &n.to_be_bytes());
                        tx.set_raw(&key, &keys.audit_key().seal(&key, &[7; 500])?)?;
                    }
                    Ok::<_, aesp_storage::Error>(())
                })
            })
            .await
            .unwrap();
        Self { folder, engine, store, key }
    }

    async fn export_with(
        &self,
        engine: &Arc<dyn Engine>,
        target: Option<ArchiveKey>,
        kept: Option<Duration>,
    ) -> Result<(Vec<u8>, Exported), Error> {
        let wrapping = Wrapping {
            source: Arc::clone(&self.key) as Arc<dyn KeyProvider>,
            target,
            source_description: "file:a".into(),
        };
        let (mut out, clock) = (Vec::new(), ManualClock::new(Timestamp(1_800_000_000_000)));
        let source = Source { engine, cluster: ClusterId("one".into()), kept, tenant: None };
        let exported = export(&source, &wrapping, &clock, &mut out, &mut |_| {}).await?;
        Ok((out, exported))
    }

    async fn export(&self) -> Vec<u8> {
        self.export_with(&self.engine, None, None).await.unwrap().0
    }
}

async fn import_into(
    file: &[u8],
    engine: &Arc<dyn Engine>,
    key: &Arc<FileKeyProvider>,
) -> Result<rebirth::Reborn, Error> {
    let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_100_000))) as Arc<dyn Clock>;
    let (store, entropy) = (on(engine, key), Entropy::from_seed(4));
    let mut file = Cursor::new(file);
    import(&mut file, &store, &**key, clock, &entropy, &mut |_| {}).await.map(|(_, reborn)| reborn)
}

async fn sealed_rows_open(engine: &Arc<dyn Engine>, key: &Arc<FileKeyProvider>) {
    let store = on(engine, key);
    let opened = store.run(|tx| {
        Box::pin(async move {
            let keys = tx.tenant_keys(TENANT).await?;
            for n in [0, 1, 2_999_u32] {
                let key = row_key(TENANT, Kind::SESSION, &n.to_be_bytes());
                let sealed = tx.get_raw(&key).await?.expect("was exported");
                assert_eq!(keys.audit_key().open(&key, &sealed)?, [7; 500]);
            }
            let node = tx.get_raw(&row_key(TenantId::PLATFORM, Kind::NODE, &[1; 8])).await?;
            assert!(node.is_none(), "nodes are not exported");
            Ok::<_, aesp_storage::Error>(())
        })
    });
    opened.await.unwrap();
}

#[tokio::test]
async fn an_export_is_a_store_on_any_engine_under_any_key() {
    let world = World::new().await;
    let other = Arc::new(FileKeyProvider::create(&world.folder.path().join("other.key")).unwrap());
    let target =
        ArchiveKey { provider: Arc::clone(&other) as Arc<dyn KeyProvider>, description: "file:b".into() };
    let (file, exported) = world.export_with(&world.engine, Some(target), None).await.unwrap();
    assert_eq!((exported.manifest.tenants, exported.header.key_provider.as_str()), (2, "file:b"));
    assert_eq!(exported.manifest.rows_by_kind[&Kind::SESSION.code()], 3_000);
    let engine = memory();
    let reborn = import_into(&file, &engine, &other).await.unwrap();
    assert_eq!((reborn.tenants, reborn.nodes), (2, 0));
    sealed_rows_open(&engine, &other).await;
    rebirth::check(&on(&engine, &other)).await.unwrap();

    let engine = memory();
    let refused = import_into(&file, &engine, &world.key).await;
    assert!(matches!(refused, Err(Error::OtherKey { provider, .. }) if provider == "file:b"));
    let engine = memory();
    import_into(&world.export().await, &engine, &world.key).await.unwrap();
    sealed_rows_open(&engine, &world.key).await;
}

#[tokio::test]
async fn what_is_not_as_it_was_written_is_refused_before_anything_is_written() {
    let world = World::new().await;
    let file = world.export().await;
    let (clear, empty) = (memory(), memory());
    for at in [0, 9, 12, 200, file.len() / 2, file.len() - 100, file.len() - 1] {
        let refused = import_into(&file[..at], &empty, &world.key).await;
        assert!(matches!(refused, Err(Error::Truncated(_) | Error::NotAnExport)), "cut at {at}: {refused:?}");
        let mut changed = file.clone();
        changed[at] ^= 1;
        let refused = import_into(&changed, &empty, &world.key).await;
        let told = matches!(
            refused,
            Err(Error::NotAnExport
                | Error::NewerFormat { .. }
                | Error::Altered(_)
                | Error::Truncated(_)
                | Error::OtherKey { .. })
        );
        assert!(told, "changed at {at}: {refused:?}");
    }
    let longer = [file.as_slice(), b"x"].concat();
    assert!(matches!(import_into(&longer, &empty, &world.key).await, Err(Error::Altered(_))));
    let mut newer = file.clone();
    newer[9] = 9;
    let refused = import_into(&newer, &empty, &world.key).await;
    assert!(matches!(refused, Err(Error::NewerFormat { found: 9, known: 2 })));
    import_into(&file, &empty, &world.key).await.expect("nothing was written until now");
    assert!(matches!(import_into(&file, &empty, &world.key).await, Err(Error::NotEmpty)));
    on(&clear, &world.key).initialise().await.unwrap();
    assert!(matches!(import_into(&file, &clear, &world.key).await, Err(Error::NotEmpty)));
}

/// Keeps no snapshot for long, and changes a row after so many snapshots.
struct Fleeting {
    inner: Arc<dyn Engine>,
    snapshots: AtomicU64,
    changes_after: u64,
}

#[async_trait]
impl Engine for Fleeting {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, aesp_storage::Error> {
        if self.snapshots.fetch_add(1, Ordering::SeqCst) == self.changes_after {
            let change = Mutation::Set { key: CHANGED.to_vec(), value: b"changed".as_slice().into() };
            self.inner.commit(Commit { mutations: vec![change], ..Commit::default() }).await?;
        }
        self.inner.snapshot().await
    }

    async fn commit(&self, commit: Commit) -> Result<Versionstamp, aesp_storage::Error> {
        self.inner.commit(commit).await
    }

    fn watch(&self, key: &[u8]) -> Watch {
        self.inner.watch(key)
    }
}

#[tokio::test]
async fn an_engine_that_keeps_no_snapshot_is_exported_if_nothing_changes() {
    let world = World::new().await;
    let fleeting = |changes_after| -> Arc<dyn Engine> {
        let inner = Arc::clone(&world.engine);
        Arc::new(Fleeting { inner, snapshots: AtomicU64::new(0), changes_after })
    };
    let (file, _) = world.export_with(&fleeting(u64::MAX), None, Some(Duration::ZERO)).await.unwrap();
    let engine = memory();
    import_into(&file, &engine, &world.key).await.unwrap();
    sealed_rows_open(&engine, &world.key).await;
    // The last page of the first pass has been read: only the second pass can see it.
    let refused = world.export_with(&fleeting(6), None, Some(Duration::ZERO)).await;
    assert!(matches!(refused, Err(Error::Changed)));
    drop(world.store);
}
