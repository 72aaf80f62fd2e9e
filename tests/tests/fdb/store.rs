use std::{path::Path, sync::Arc, time::Duration};

use aesp_proto::TenantId;
use aesp_storage::{Error, FdbEngine, FdbOptions, FdbTls, FileKeyProvider, Kind, Store, row_key};
use aesp_tests::{FdbCluster, FdbFiles};
use tokio::time::{Instant, sleep};

const KEY: &[u8] = b"of the test";

/// How an engine reaches a cluster.
pub(crate) fn options(file: &Path, tls: Option<&FdbFiles>) -> FdbOptions {
    let tls = tls.map(|files| FdbTls {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        ca: files.ca.clone(),
        verify_peers: None,
    });
    FdbOptions { cluster_file: file.into(), library: FdbCluster::library(), tls, ..FdbOptions::default() }
}

/// Opens a store.
pub(crate) async fn open(options: FdbOptions, folder: &Path) -> Result<Store, Error> {
    let engine = Arc::new(FdbEngine::open(options).await?);
    let provider = Arc::new(FileKeyProvider::create(&folder.join("master.key"))?);
    let store =
        Store::new(engine, provider, Arc::new(aesp_proto::SystemClock), aesp_proto::Entropy::from_system());
    store.initialise().await?;
    Ok(store)
}

/// Commits a value once.
pub(crate) async fn write(store: &Store, value: u64) -> Result<(), Error> {
    let key = row_key(TenantId::PLATFORM, Kind::SESSION, KEY);
    let (key, value) = (&key, value.to_be_bytes());
    store.run_borrowing(|tx| Box::pin(async move { tx.set_raw(key, &value) })).await
}

/// Returns the value.
pub(crate) async fn read(store: &Store) -> Result<Option<u64>, Error> {
    let key = row_key(TenantId::PLATFORM, Kind::SESSION, KEY);
    let key = &key;
    let value = store.run_borrowing(|tx| Box::pin(async move { tx.get_raw(key).await })).await?;
    Ok(value.and_then(|value| value.as_ref().try_into().ok()).map(u64::from_be_bytes))
}

/// Tries to commit until it succeeds; returns after how long.
pub(crate) async fn written_within(store: &Store, value: u64, patience: Duration) -> Duration {
    let began = Instant::now();
    loop {
        match write(store, value).await {
            Ok(()) => return began.elapsed(),
            Err(error) if began.elapsed() > patience => {
                panic!("no commit within {patience:?}: {error}");
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}
