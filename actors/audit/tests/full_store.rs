//! A store that is full: revocations are recorded all the same, and nobody waits for those that can't be.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

use std::sync::Arc;

use aesp_audit::{Error, Event, Filter, Options, Query, Recorder, query};
use aesp_proto::{
    Clock, Entropy, SystemClock, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::{Error as StoreError, FileKeyProvider, LmdbOptions, Store};
use futures::future::join_all;

const TENANT: TenantId = TenantId::from_bytes([7; 16]);

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] Error),
}

async fn small_store(folder: &std::path::Path) -> Store {
    let key = Arc::new(FileKeyProvider::create(&folder.join("master.key")).unwrap());
    let options = LmdbOptions { map_size_bytes: 4 << 20, ..LmdbOptions::default() };
    let store = Store::lmdb(&folder.join("store"), options, key).await.unwrap();
    store.initialise().await.unwrap();
    let created = store.run(|tx| Box::pin(async move { tx.create_tenant_keys(TENANT).await }));
    let created: Result<(), StoreError> = created.await;
    created.unwrap();
    store
}

fn event(entropy: &Entropy, action: &str, bytes: usize) -> Event {
    let mut event = Event::new(entropy, TENANT, EventType::SystemEvent, action, Outcome::Success);
    event.details.reason = "x".repeat(bytes);
    event
}

async fn revoke(recorder: &Recorder, entropy: &Entropy) -> Result<(), Failure> {
    let event = event(entropy, "role.revoke", 0);
    recorder
        .record_for(TENANT, move |tx| {
            let event = event.clone();
            Box::pin(async move {
                tx.use_reserve();
                Ok::<_, Failure>(((), vec![event]))
            })
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_is_recorded_among_many_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let store = small_store(folder.path()).await;
    let entropy = Entropy::from_system();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (recorder, _duty) =
        Recorder::start(store.clone(), clock, entropy.clone(), Options::default()).await.unwrap();
    let refused = loop {
        if let Err(error) = recorder.append(vec![event(&entropy, "filler", 20_000)]).await {
            break error;
        }
    };
    assert!(matches!(refused, Error::NotCommitted { cause: StoreError::Full }), "{refused:?}");
    for _ in 0..5 {
        let crowd = (0..30).map(|_| recorder.append(vec![event(&entropy, "filler", 60_000)]));
        let (crowd, revoked) = tokio::join!(join_all(crowd), revoke(&recorder, &entropy));
        revoked.expect("a revocation waits for nobody");
        for refused in crowd.into_iter().filter_map(Result::err) {
            // Not parked: whoever may use the reserve is let through at once.
            assert!(matches!(refused, Error::NotCommitted { cause: StoreError::Full }), "{refused:?}");
        }
    }
    let found = Query {
        filter: Filter { actions: vec!["role.revoke".into()], ..Filter::default() },
        newest_first: true,
        limit: 1_000,
        ..Query::new(TENANT)
    };
    assert_eq!(query(&store, &found).await.unwrap().events.len(), 5);
}
