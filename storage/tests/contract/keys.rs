use std::{
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aesp_proto::TenantId;
use aesp_storage::{Error, FileKeyProvider, Kind, LmdbOptions, Store};

use crate::{
    fixture::{Fixture, OTHER, TENANT, lmdb, provider},
    rows::Note,
};

async fn put(store: &Store, tenant: TenantId) -> Result<(), Error> {
    store
        .run_borrowing(|tx| {
            Box::pin(
                async move { tx.put(tenant, &"a".to_owned(), &Note { text: "secret".to_owned() }).await },
            )
        })
        .await
}

async fn get(store: &Store, tenant: TenantId) -> Result<Option<Note>, Error> {
    store.run_borrowing(|tx| Box::pin(async move { tx.get::<Note>(tenant, &"a".to_owned()).await })).await
}

pub(crate) async fn destroyed_keys_open_nothing(store: Fixture) {
    put(&store, TENANT).await.unwrap();
    put(&store, OTHER).await.unwrap();
    store.run_borrowing(|tx| Box::pin(async move { tx.destroy_tenant_keys(TENANT).await })).await.unwrap();
    assert!(matches!(get(&store, TENANT).await, Err(Error::KeyDestroyed { tenant }) if tenant == TENANT));
    assert!(matches!(put(&store, TENANT).await, Err(Error::KeyDestroyed { .. })));
    assert!(get(&store, OTHER).await.unwrap().is_some());
    // New keys don't open what the old ones sealed.
    store.run_borrowing(|tx| Box::pin(async move { tx.create_tenant_keys(TENANT).await })).await.unwrap();
    assert!(matches!(get(&store, TENANT).await, Err(Error::Damaged { .. })));
}

pub(crate) async fn a_user_of_destroyed_keys_conflicts(store: Fixture) {
    let (attempts, store) = (&AtomicUsize::new(0), &store);
    let ran = store
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.put(TENANT, &"a".to_owned(), &Note { text: "late".to_owned() }).await?;
                if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
                    store
                        .run_borrowing(|tx| Box::pin(async move { tx.destroy_tenant_keys(TENANT).await }))
                        .await?;
                }
                Ok(())
            })
        })
        .await;
    assert!(matches!(ran, Err(Error::KeyDestroyed { .. })), "{ran:?}");
}

pub(crate) async fn keys_are_created_once(store: Fixture) {
    let again = store.run_borrowing(|tx| Box::pin(async move { tx.create_tenant_keys(TENANT).await })).await;
    assert!(matches!(again, Err(Error::KeysExist { tenant }) if tenant == TENANT));
    store.initialise().await.unwrap();
}

pub(crate) async fn blinds_differ_by_tenant_and_kind(store: Fixture) {
    let blinds = store
        .run_borrowing(|tx| {
            Box::pin(async move {
                let one = tx.blind(TENANT, Kind::PRINCIPAL_NAME, "ada").await?;
                let same = tx.blind(TENANT, Kind::PRINCIPAL_NAME, "ada").await?;
                let kind = tx.blind(TENANT, Kind::TENANT_NAME, "ada").await?;
                let tenant = tx.blind(OTHER, Kind::PRINCIPAL_NAME, "ada").await?;
                let keys = tx.tenant_keys(TENANT).await?;
                let sealed = keys.audit_key().seal(b"field", b"ada")?;
                assert_eq!(keys.audit_key().open(b"field", &sealed)?, b"ada");
                assert!(keys.audit_key().open(b"other", &sealed).is_err(), "bound to its place");
                assert_eq!(keys.digest(b"x"), keys.digest(b"x"));
                assert_ne!(keys.digest(b"x"), tx.tenant_keys(OTHER).await?.digest(b"x"));
                Ok::<_, Error>([one, same, kind, tenant])
            })
        })
        .await
        .unwrap();
    assert_eq!(blinds[0], blinds[1]);
    assert_ne!(blinds[0], blinds[2]);
    assert_ne!(blinds[0], blinds[3]);
}

#[tokio::test]
async fn a_wrong_master_key_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let open = async |provider: Arc<FileKeyProvider>| {
        Store::lmdb(&path, LmdbOptions::default(), provider).await.unwrap().initialise().await
    };
    open(provider(folder.path())).await.unwrap();
    let other = Arc::new(FileKeyProvider::create(&folder.path().join("other.key")).unwrap());
    assert!(matches!(open(other).await, Err(Error::WrongMasterKey)));
    open(provider(folder.path())).await.unwrap();
}

#[test]
fn a_master_key_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    let refused = |part: &str| match FileKeyProvider::open(&path) {
        Err(Error::KeyProvider(text)) => assert!(text.contains(part), "{text}"),
        other => panic!("{other:?}"),
    };
    refused("can't be opened");
    FileKeyProvider::create(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(FileKeyProvider::create(&path).is_err(), "never over another key");
    FileKeyProvider::open(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    refused("chmod 600");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, [0; 31]).unwrap();
    refused("31 bytes");
}

/// Two stores on one environment, as two processes have them, each with keys in memory.
#[tokio::test(flavor = "multi_thread")]
async fn keys_destroyed_elsewhere_are_gone_here() {
    let here = lmdb().await;
    let folder = here.folder.path();
    let elsewhere =
        Store::lmdb(&folder.join("store"), LmdbOptions::default(), provider(folder)).await.unwrap();
    put(&here, TENANT).await.unwrap();
    assert!(get(&elsewhere, TENANT).await.unwrap().is_some());
    elsewhere.run(|tx| Box::pin(async move { tx.destroy_tenant_keys(TENANT).await })).await.unwrap();
    assert!(matches!(get(&here, TENANT).await, Err(Error::KeyDestroyed { .. })));
    assert!(matches!(put(&here, TENANT).await, Err(Error::KeyDestroyed { .. })));
}
