use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{DataKeyRotation, DataKeyVersion, Error, Kind, Range, Row, Store, row_key};
use serde::{Deserialize, Serialize};

use crate::{
    fixture::{Fixture, OTHER, TENANT},
    rows::Note,
};

/// A row of several chunks.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Large {
    text: String,
}

impl Row for Large {
    const KIND: Kind = Kind::SESSION;
    type Key = u64;
}

const ROWS: usize = 1_200;
const NOW: Timestamp = Timestamp(1_000);

async fn put(store: &Store, tenant: TenantId, key: &str, text: &str) -> Result<(), Error> {
    let (key, note) = (key.to_owned(), Note { text: text.to_owned() });
    store.run_borrowing(|tx| Box::pin(tx.put(tenant, &key, &note))).await
}

async fn get(store: &Store, tenant: TenantId, key: &str) -> Result<Option<Note>, Error> {
    let key = key.to_owned();
    store.run_borrowing(|tx| Box::pin(tx.get::<Note>(tenant, &key))).await
}

async fn begin(store: &Store, tenant: TenantId) -> Result<DataKeyVersion, Error> {
    store.run_borrowing(|tx| Box::pin(tx.begin_data_key_rotation(tenant, NOW))).await
}

async fn step(store: &Store, tenant: TenantId) -> Result<Option<DataKeyRotation>, Error> {
    store.run_borrowing(|tx| Box::pin(tx.step_data_key_rotation(tenant))).await
}

async fn fill(store: &Store) {
    for page in 0..ROWS / 100 {
        let written = store.run_borrowing(|tx| {
            Box::pin(async move {
                for number in page * 100..(page + 1) * 100 {
                    let note = Note { text: format!("old {number}") };
                    tx.put(TENANT, &format!("{number:05}"), &note).await?;
                }
                Ok::<_, Error>(())
            })
        });
        written.await.unwrap();
    }
}

/// Returns the first bytes of the tenant's sealed rows, and how many have each.
async fn heads(store: &Store, tenant: TenantId) -> std::collections::BTreeMap<u8, usize> {
    let range = Range::prefix(&row_key(tenant, Kind::CONFIG, &[]));
    let rows = store.run_borrowing(|tx| Box::pin(tx.range_raw(range.clone()))).await.unwrap();
    let mut heads = std::collections::BTreeMap::new();
    for (_, value) in rows {
        *heads.entry(value[0]).or_default() += 1;
    }
    heads
}

pub(crate) async fn old_rows_are_sealed_anew_while_others_write(store: Fixture) {
    fill(&store).await;
    put(&store, OTHER, "a", "another's").await.unwrap();
    let large = &Large { text: "x".repeat(250_000) };
    store.run_borrowing(|tx| Box::pin(tx.put(TENANT, &7, large))).await.unwrap();
    assert_eq!(heads(&store, TENANT).await, [(2, ROWS)].into(), "as the release before writes them");

    assert_eq!(begin(&store, TENANT).await.unwrap(), DataKeyVersion(2));
    // New writes use the new key at once; what is old is read as before.
    put(&store, TENANT, "00000", "new").await.unwrap();
    assert_eq!(heads(&store, TENANT).await, [(2, ROWS - 1), (4, 1)].into());
    assert_eq!(get(&store, TENANT, "00001").await.unwrap().unwrap().text, "old 1");

    let mut rounds = 0;
    while let Some(rotation) = step(&store, TENANT).await.unwrap() {
        rounds += 1;
        assert!(rotation.resealed > 0 || rotation.seen < 10, "{rotation:?}");
        assert_eq!(rotation.unreadable, 0);
        put(&store, TENANT, "99999", &format!("round {rounds}")).await.unwrap();
        assert!(rounds < 20);
    }
    assert!(rounds >= 3, "{ROWS} rows are more than one step");
    assert_eq!(heads(&store, TENANT).await, [(4, ROWS + 1)].into());
    let versions = store.run_borrowing(|tx| {
        Box::pin(async move {
            let keys = tx.tenant_keys(TENANT).await?;
            Ok::<_, Error>((keys.data_version(), keys.oldest_data_version()))
        })
    });
    assert_eq!(versions.await.unwrap(), (DataKeyVersion(2), DataKeyVersion(2)), "the old one is dropped");
    for number in 1..ROWS {
        let note = get(&store, TENANT, &format!("{number:05}")).await.unwrap().unwrap();
        assert_eq!(note.text, format!("old {number}"));
    }
    assert_eq!(get(&store, TENANT, "00000").await.unwrap().unwrap().text, "new");
    let again = store.run_borrowing(|tx| Box::pin(tx.get::<Large>(TENANT, &7))).await.unwrap();
    assert_eq!(again.as_ref(), Some(large));
    assert_eq!(heads(&store, OTHER).await, [(2, 1)].into(), "nobody else's are touched");

    // And once more: versions count on.
    assert_eq!(begin(&store, TENANT).await.unwrap(), DataKeyVersion(3));
    while step(&store, TENANT).await.unwrap().is_some() {}
    assert_eq!(get(&store, TENANT, "00001").await.unwrap().unwrap().text, "old 1");
}

pub(crate) async fn a_rotation_goes_on_where_it_stood(store: Fixture) {
    fill(&store).await;
    begin(&store, TENANT).await.unwrap();
    step(&store, TENANT).await.unwrap();
    let before = step(&store, TENANT).await.unwrap().unwrap();
    // A row that no key opens is counted, and does not stop the others.
    let broken = &row_key(TENANT, Kind::CONFIG, &aesp_storage::encode(&"00700".to_owned()));
    let value = &[&[2][..], &[9; 60]].concat();
    store.run_borrowing(|tx| Box::pin(async move { tx.set_raw(broken, value) })).await.unwrap();
    let after = step(&store, TENANT).await.unwrap().unwrap();
    assert!(after.seen > before.seen && after.next > before.next);
    assert_eq!((before.unreadable, after.unreadable), (0, 1));
    while step(&store, TENANT).await.unwrap().is_some() {}
    assert!(get(&store, TENANT, "00699").await.unwrap().is_some());
    assert!(get(&store, TENANT, "01199").await.unwrap().is_some());
    assert!(matches!(get(&store, TENANT, "00700").await, Err(Error::Damaged { .. })));
    assert!(step(&store, TENANT).await.unwrap().is_none(), "it is over");
}

pub(crate) async fn one_rotation_at_a_time(store: Fixture) {
    put(&store, TENANT, "a", "one").await.unwrap();
    begin(&store, TENANT).await.unwrap();
    let again = begin(&store, TENANT).await;
    assert!(matches!(again, Err(Error::KeyRotating { tenant }) if tenant == TENANT), "{again:?}");
    begin(&store, OTHER).await.unwrap();
    let nobody = TenantId::from_bytes([9; 16]);
    assert!(matches!(begin(&store, nobody).await, Err(Error::KeyDestroyed { .. })));
}

pub(crate) async fn keys_destroyed_meanwhile_end_it(store: Fixture) {
    put(&store, TENANT, "a", "one").await.unwrap();
    begin(&store, TENANT).await.unwrap();
    store.run_borrowing(|tx| Box::pin(tx.destroy_tenant_keys(TENANT))).await.unwrap();
    assert!(step(&store, TENANT).await.unwrap().is_none());
    let rotation = store.run_borrowing(|tx| Box::pin(tx.get::<DataKeyRotation>(TenantId::PLATFORM, &TENANT)));
    assert!(rotation.await.unwrap().is_none());
    assert!(matches!(get(&store, TENANT, "a").await, Err(Error::KeyDestroyed { .. })));
}

/// What the release before wrote, byte for byte, opens; and what a rotated file wraps does so too.
#[tokio::test]
async fn a_master_key_file_is_rotated_and_shared() {
    use aesp_storage::{FileKeyProvider, KeyProvider};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    let one = FileKeyProvider::create(&path).unwrap();
    let other = FileKeyProvider::open(&path).unwrap();
    let old = one.wrap(b"a key", b"aad").await.unwrap();
    assert_eq!(old.len(), 5 + 40, "without any mark, as the release before has it");
    assert_eq!(one.rotate().await.unwrap(), 2.into());
    let new = one.wrap(b"a key", b"aad").await.unwrap();
    assert_eq!(one.version_of(&new).unwrap(), 2.into());
    // Another process reads the file again when it meets the new version.
    assert_eq!(other.unwrap(&new, b"aad").await.unwrap(), b"a key");
    assert_eq!(other.unwrap(&old, b"aad").await.unwrap(), b"a key");
    assert!(matches!(other.unwrap(&new, b"elsewhere").await, Err(Error::WrongMasterKey)));
    assert_eq!(other.rotate().await.unwrap(), 3.into());
    assert_eq!(one.current().await.unwrap(), 3.into());
    // A version that somebody takes out of the file is gone, and said to be.
    let text = std::fs::read_to_string(&path).unwrap();
    let without: Vec<_> = text.lines().filter(|line| !line.starts_with("2 ")).collect();
    std::fs::write(&path, without.join("\n")).unwrap();
    let reopened = FileKeyProvider::open(&path).unwrap();
    let gone = reopened.unwrap(&new, b"aad").await.unwrap_err();
    assert!(matches!(&gone, Error::MasterKeyGone(why) if why.contains("version 2")), "{gone}");
    assert_eq!(reopened.unwrap(&old, b"aad").await.unwrap(), b"a key");
}
