use std::sync::atomic::{AtomicBool, AtomicUsize};

use async_trait::async_trait;
use tokio::time::advance;

use super::*;
use crate::{KeyVersion, Kind, MemoryOptions, Row, Store};

/// A provider that can be taken away, and counts how often it unwraps.
#[derive(Default)]
struct Switch {
    away: AtomicBool,
    unwrapped: AtomicUsize,
    version: AtomicU64,
}

#[async_trait]
impl KeyProvider for Switch {
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        self.answer()?;
        let version = self.version.load(Ordering::SeqCst);
        Ok([&version.to_be_bytes(), &(aad.len() as u64).to_be_bytes(), aad, key].concat())
    }

    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        self.answer()?;
        self.unwrapped.fetch_add(1, Ordering::SeqCst);
        wrapped[16..].strip_prefix(aad).map(Vec::from).ok_or(Error::WrongMasterKey)
    }

    fn version_of(&self, wrapped: &[u8]) -> Result<KeyVersion, Error> {
        Ok(u64::from_be_bytes(wrapped[..8].try_into().unwrap()).into())
    }

    async fn current(&self) -> Result<KeyVersion, Error> {
        self.answer()?;
        Ok(self.version.load(Ordering::SeqCst).into())
    }

    async fn rotate(&self) -> Result<KeyVersion, Error> {
        self.answer()?;
        Ok((self.version.fetch_add(1, Ordering::SeqCst) + 1).into())
    }

    fn describe(&self) -> String {
        "a switch".into()
    }
}

impl Switch {
    fn answer(&self) -> Result<(), Error> {
        if self.away.load(Ordering::SeqCst) { Err(Error::KeyProviderAway("off".into())) } else { Ok(()) }
    }

    fn asked(&self) -> usize {
        self.unwrapped.load(Ordering::SeqCst)
    }
}

const TENANT: TenantId = TenantId::from_bytes([7; 16]);

#[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
struct Note(String);

impl Row for Note {
    const KIND: Kind = Kind::CONFIG;
    type Key = String;
}

async fn store() -> (Store, Arc<Switch>) {
    let switch = Arc::new(Switch::default());
    let store = Store::memory(MemoryOptions::default(), Arc::clone(&switch) as _);
    store.initialise().await.unwrap();
    store.run(|tx| Box::pin(tx.create_tenant_keys(TENANT))).await.unwrap();
    (store, switch)
}

async fn put(store: &Store, key: &str, text: &str) -> Result<(), Error> {
    let (key, note) = (key.to_owned(), Note(text.to_owned()));
    store.run_borrowing(|tx| Box::pin(tx.put(TENANT, &key, &note))).await
}

async fn get(store: &Store, key: &str) -> Result<Option<Note>, Error> {
    let key = key.to_owned();
    store.run_borrowing(|tx| Box::pin(tx.get::<Note>(TENANT, &key))).await
}

#[tokio::test(start_paused = true)]
async fn keys_go_on_for_their_life_and_no_longer() {
    let (store, switch) = store().await;
    put(&store, "a", "one").await.unwrap();
    let before = switch.asked();
    switch.away.store(true, Ordering::SeqCst);
    advance(LIFE - Duration::from_secs(1)).await;
    assert!(get(&store, "a").await.unwrap().is_some(), "held");
    put(&store, "b", "two").await.unwrap();
    advance(Duration::from_secs(2)).await;
    for _ in 0..3 {
        let refused = get(&store, "a").await.unwrap_err();
        assert!(matches!(refused, Error::KeyProviderAway(_)), "{refused}");
    }
    assert!(matches!(put(&store, "c", "three").await, Err(Error::KeyProviderAway(_))));
    assert_eq!(switch.asked(), before);
    let health = store.key_health();
    assert_eq!(health.cached, 0, "what is over is not kept");
    assert!(matches!(health.trouble, Some((Error::KeyProviderAway(_), _))));

    switch.away.store(false, Ordering::SeqCst);
    advance(PAUSE).await;
    assert_eq!(get(&store, "b").await.unwrap(), Some(Note("two".into())));
    assert!(get(&store, "c").await.unwrap().is_none(), "nothing was written meanwhile");
    assert!(store.key_health().trouble.is_none());
}

#[tokio::test(start_paused = true)]
async fn keys_in_use_are_asked_for_before_their_life_is_over() {
    let (store, switch) = store().await;
    put(&store, "a", "one").await.unwrap();
    advance(LIFE / 2 + Duration::from_secs(1)).await;
    let before = switch.asked();
    get(&store, "a").await.unwrap();
    while switch.asked() == before {
        tokio::task::yield_now().await;
    }
    assert_eq!(switch.asked(), before + 1);
    // Alive beyond what the first answer was good for.
    switch.away.store(true, Ordering::SeqCst);
    advance(LIFE / 2).await;
    assert!(get(&store, "a").await.unwrap().is_some());
}

#[tokio::test]
async fn many_who_need_the_same_keys_ask_once() {
    let (store, switch) = store().await;
    put(&store, "a", "one").await.unwrap();
    store.shared.keyring.forget(TENANT);
    let before = switch.asked();
    let reads = (0..50).map(|_| get(&store, "a"));
    for read in futures::future::join_all(reads).await {
        assert!(read.unwrap().is_some());
    }
    assert_eq!(switch.asked(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn wrapping_anew_does_not_shorten_what_is_held() {
    let (store, switch) = store().await;
    put(&store, "a", "one").await.unwrap();
    let version = store.rotate_master_key().await.unwrap();
    let rewrapped = store.run(|tx| {
        let version = version.clone();
        Box::pin(async move {
            assert!(tx.rewrap_canary(&version).await?);
            assert!(tx.rewrap(TENANT, &version).await?);
            tx.rewrap(TENANT, &version).await
        })
    });
    assert!(!rewrapped.await.unwrap(), "once is enough");
    let under = store.run(|tx| Box::pin(tx.wrapped_under(TENANT))).await.unwrap();
    assert_eq!(under, Some(version));
    switch.away.store(true, Ordering::SeqCst);
    assert!(get(&store, "a").await.unwrap().is_some());
    switch.away.store(false, Ordering::SeqCst);
    store.shared.keyring.forget(TENANT);
    assert!(get(&store, "a").await.unwrap().is_some());
    store.initialise().await.unwrap();
}
