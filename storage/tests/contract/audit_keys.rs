//! The keys that seal audit events: what seals, opens; what is destroyed, opens nothing any more, anywhere.

use std::sync::atomic::{AtomicUsize, Ordering};

use aesp_proto::{PrincipalId, Timestamp};
use aesp_storage::{
    AuditKey, AuditKeyName, AuditPeriod, Destroyed, Error, Kind, LmdbOptions, Opened, Range, Store, row_key,
};

use crate::fixture::{Fixture, TENANT, lmdb, provider};

const PERIOD: AuditPeriod = AuditPeriod { class: 3, first_day: 20_000, days: 31 };
const LATER: AuditPeriod = AuditPeriod { class: 3, first_day: 20_031, days: 30 };
const ADA: PrincipalId = PrincipalId::from_bytes([1; 16]);
const BOB: PrincipalId = PrincipalId::from_bytes([2; 16]);

type Sealed = (Vec<u8>, Vec<u8>);

fn with(key: &AuditKey, text: &[u8]) -> Result<Sealed, Error> {
    Ok((key.id().to_vec(), key.seal(b"place", text)?))
}

async fn seal(store: &Store, period: AuditPeriod, about: Option<PrincipalId>) -> Result<Sealed, Error> {
    store
        .run(move |tx| {
            Box::pin(async move { with(&*tx.audit_sealer(TENANT, period, about).await?, b"said") })
        })
        .await
}

async fn open(store: &Store, (id, sealed): &Sealed) -> Result<Option<Vec<u8>>, Error> {
    let (id, sealed) = (id.clone(), sealed.clone());
    store
        .run(move |tx| {
            let (id, sealed) = (id.clone(), sealed.clone());
            Box::pin(async move {
                match tx.audit_opener(TENANT, &id).await? {
                    Opened::Key(key) => key.open(b"place", &sealed).map(Some),
                    Opened::Destroyed(row) => {
                        assert_eq!(row.rule, "a test");
                        Ok(None)
                    }
                    Opened::Unknown => panic!("nothing is known of the key"),
                }
            })
        })
        .await
}

fn names((id, _): &Sealed) -> (AuditKeyName, Option<AuditKeyName>) {
    let (partition, subject) = AuditKeyName::of_event(id).unwrap();
    (AuditKeyName::Partition(partition), subject.map(AuditKeyName::Subject))
}

async fn destroy(store: &Store, name: AuditKeyName) {
    let why = Destroyed { at: Timestamp(5), by: Some(BOB), rule: "a test".into(), reason: "none".into() };
    store
        .run(move |tx| {
            let why = why.clone();
            Box::pin(async move {
                tx.destroy_audit_key(TENANT, name, &why).await?;
                tx.rename_tenant_keys(TENANT).await
            })
        })
        .await
        .unwrap();
}

pub(crate) async fn either_key_destroyed_shuts_what_both_sealed(store: Fixture) {
    let nobody = seal(&store, PERIOD, None).await.unwrap();
    let ada = seal(&store, PERIOD, Some(ADA)).await.unwrap();
    let bob = seal(&store, PERIOD, Some(BOB)).await.unwrap();
    let later = seal(&store, LATER, Some(ADA)).await.unwrap();
    assert_eq!((nobody.0.len(), ada.0.len()), (16, 36));
    assert_eq!(names(&nobody).0, names(&bob).0, "one key a period");
    assert_eq!(names(&ada).1, names(&later).1, "one key a subject");
    for sealed in [&nobody, &ada, &bob, &later] {
        assert_eq!(open(&store, sealed).await.unwrap().as_deref(), Some(&b"said"[..]));
    }
    let mut foreign = ada.clone();
    foreign.0.clone_from(&bob.0);
    assert!(open(&store, &foreign).await.is_err(), "another's key");

    destroy(&store, names(&ada).1.unwrap()).await;
    assert_eq!(open(&store, &ada).await.unwrap(), None);
    assert_eq!(open(&store, &later).await.unwrap(), None);
    assert!(open(&store, &bob).await.unwrap().is_some() && open(&store, &nobody).await.unwrap().is_some());
    // What is written about her afterwards has another key.
    let again = seal(&store, PERIOD, Some(ADA)).await.unwrap();
    assert_ne!(names(&again).1, names(&ada).1);
    assert!(open(&store, &again).await.unwrap().is_some());
    assert_eq!(open(&store, &ada).await.unwrap(), None);

    destroy(&store, names(&bob).0).await;
    for gone in [&nobody, &bob, &again] {
        assert_eq!(open(&store, gone).await.unwrap(), None);
    }
    let last = seal(&store, LATER, Some(ADA)).await.unwrap();
    assert!(open(&store, &last).await.unwrap().is_some());
}

pub(crate) async fn keys_that_were_not_committed_are_forgotten(store: Fixture) {
    let failed = store
        .run(|tx| {
            Box::pin(async move {
                let sealed = with(&*tx.audit_sealer(TENANT, PERIOD, Some(ADA)).await?, b"said")?;
                // The transaction itself uses it.
                assert!(matches!(tx.audit_opener(TENANT, &sealed.0).await?, Opened::Key(_)));
                Err::<Sealed, _>(Error::Timeout)
            })
        })
        .await;
    assert!(failed.is_err());
    let sealed = seal(&store, PERIOD, Some(ADA)).await.unwrap();
    assert!(open(&store, &sealed).await.unwrap().is_some());
    let (partitions, subjects) = store
        .run(|tx| {
            Box::pin(async move {
                Ok::<_, Error>((tx.audit_partitions(TENANT).await?, tx.audit_subjects(TENANT, ADA).await?))
            })
        })
        .await
        .unwrap();
    assert_eq!((partitions.len(), subjects.len()), (1, 1));
    assert_eq!(
        names(&sealed),
        (AuditKeyName::Partition(partitions[0]), Some(AuditKeyName::Subject(subjects[0])))
    );
}

pub(crate) async fn who_seals_conflicts_with_who_destroys(store: Fixture) {
    let before = seal(&store, PERIOD, Some(ADA)).await.unwrap();
    let (attempts, other, name) = (AtomicUsize::new(0), (*store).clone(), names(&before).1.unwrap());
    let after = store
        .run_borrowing(|tx| {
            let (attempts, other) = (&attempts, &other);
            Box::pin(async move {
                let sealed = with(&*tx.audit_sealer(TENANT, PERIOD, Some(ADA)).await?, b"said")?;
                tx.set_raw(&row_key(TENANT, Kind::AUDIT_EVENT, b"an event"), &sealed.1)?;
                if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
                    destroy(other, name).await;
                }
                Ok::<_, Error>(sealed)
            })
        })
        .await
        .unwrap();
    assert_ne!(names(&after).1, names(&before).1, "nothing is committed under a key that is gone");
    assert!(open(&store, &after).await.unwrap().is_some());
}

pub(crate) async fn the_key_of_an_older_release_opens_still(store: Fixture) {
    let old: Sealed = store
        .run(|tx| Box::pin(async move { with(tx.tenant_keys(TENANT).await?.audit_key(), b"said") }))
        .await
        .unwrap();
    assert_eq!(old.0.len(), 16);
    seal(&store, PERIOD, None).await.unwrap();
    assert_eq!(open(&store, &old).await.unwrap().as_deref(), Some(&b"said"[..]));
}

/// Two stores on one environment, as two processes have them, each with keys in memory; and what lies in the store is gone.
#[tokio::test(flavor = "multi_thread")]
async fn audit_keys_destroyed_elsewhere_are_gone_here_and_from_every_row() {
    let here = lmdb().await;
    let folder = here.folder.path();
    let elsewhere =
        Store::lmdb(&folder.join("store"), LmdbOptions::default(), provider(folder)).await.unwrap();
    let sealed = seal(&here, PERIOD, Some(ADA)).await.unwrap();
    assert!(open(&elsewhere, &sealed).await.unwrap().is_some());
    let rows = async |kind| {
        let range = Range::prefix(&row_key(TENANT, kind, &[]));
        here.run(move |tx| {
            let range = range.clone();
            Box::pin(async move { tx.range_raw(range).await })
        })
        .await
        .unwrap()
    };
    let keys = [rows(Kind::AUDIT_PARTITION_KEY).await, rows(Kind::AUDIT_SUBJECT_KEY).await].concat();
    assert_eq!(keys.len(), 2);
    let (partition, subject) = names(&sealed);
    destroy(&elsewhere, subject.unwrap()).await;
    assert_eq!(open(&here, &sealed).await.unwrap(), None);
    destroy(&here, partition).await;
    assert_eq!(open(&elsewhere, &sealed).await.unwrap(), None);
    // The bytes of the wrapped keys are in no row any more.
    let all = here.run(|tx| Box::pin(async move { tx.range_raw(Range::new([0], [0xFF; 30])).await }));
    for (_, value) in all.await.unwrap() {
        for (_, key) in &keys {
            assert!(
                !value.windows(key.len()).any(|part| part == key.as_ref()),
                "a destroyed key lies in a row"
            );
        }
    }
}
