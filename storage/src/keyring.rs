use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_proto::TenantId;
use bytes::Bytes;
use tokio::time::Instant;

use crate::{Error, KeyProvider, TenantKeys, keys_row::KeysRow};

/// How long unwrapped keys are held, unless somebody says otherwise.
const LIFE: Duration = Duration::from_secs(600);
/// A provider that was away is not asked again before that, so that what can't succeed fails at once; for one that let its callers wait,
/// a multiple of their wait.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_OF_WAITS: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The tenants' keys, unwrapped, for a bounded life, so that the provider is asked now and then and not at every transaction.
///
/// Every transaction reads the wrapped keys of its tenants from its own snapshot and takes the cached ones only if they
/// are those. So a destroyed key is refused from the commit on, in every process that shares the store, and a
/// transaction that used a key conflicts with its destruction.
///
/// In the second half of their life keys in use are asked for again in the background. A provider that is away for less
/// than half a life is not noticed by anybody; after a whole life nothing opens any more.
pub(crate) struct Keyring {
    pub(crate) provider: Arc<dyn KeyProvider>,
    life_ms: AtomicU64,
    cached: Mutex<HashMap<TenantId, Cached>>,
    /// One question at a time for each tenant: whoever comes later waits for the answer.
    asking: Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>,
    trouble: Mutex<Option<Trouble>>,
}

struct Cached {
    /// The row that they were opened from, and their name.
    value: Bytes,
    name: [u8; 16],
    keys: Arc<TenantKeys>,
    opened: Instant,
}

struct Trouble {
    error: Error,
    since: Instant,
    last: Instant,
    pause: Duration,
}

/// How the keys are.
#[derive(Clone, Debug)]
pub struct KeyHealth {
    /// What the provider last failed with, and for how long it has; nothing if it last answered.
    pub trouble: Option<(Error, Duration)>,
    /// How many tenants' keys are in memory.
    pub cached: usize,
    /// The age of the oldest of them.
    pub oldest: Duration,
    /// How old they may become.
    pub life: Duration,
    /// Whether the platform's own keys are in memory: without them, and without the provider, nothing is served.
    pub platform: bool,
}

impl Keyring {
    pub(crate) fn new(provider: Arc<dyn KeyProvider>) -> Self {
        Self {
            provider,
            life_ms: AtomicU64::new(u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX)),
            cached: Mutex::default(),
            asking: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    pub(crate) fn set_life(&self, life: Duration) {
        self.life_ms.store(u64::try_from(life.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn life(&self) -> Duration {
        Duration::from_millis(self.life_ms.load(Ordering::Relaxed))
    }

    /// Drops the tenant's keys from memory.
    pub(crate) fn forget(&self, tenant: TenantId) {
        self.lock().remove(&tenant);
    }

    /// Drops the keys whose life is over from memory.
    pub(crate) fn purge(&self) {
        let life = self.life();
        self.lock().retain(|_, cached| cached.opened.elapsed() < life);
        self.asking().retain(|_, question| Arc::strong_count(question) > 1);
    }

    /// Returns the tenant's keys as they were last seen. A guess, until a transaction has read that they hold.
    pub(crate) fn peek(&self, tenant: TenantId) -> Option<Arc<TenantKeys>> {
        let life = self.life();
        let cached = self.lock();
        let cached = cached.get(&tenant).filter(|cached| cached.opened.elapsed() < life);
        cached.map(|cached| Arc::clone(&cached.keys))
    }

    /// Returns the keys of this row, from memory or from the provider.
    pub(crate) async fn unwrapped(
        self: &Arc<Self>,
        tenant: TenantId,
        row: KeysRow,
    ) -> Result<Arc<TenantKeys>, Error> {
        if let Some((keys, age)) = self.held(tenant, &row) {
            if age > self.life() / 2 {
                self.renew(tenant, row);
            }
            return Ok(keys);
        }
        let question = self.question(tenant);
        let _asking = question.lock().await;
        if let Some((keys, _)) = self.held(tenant, &row) {
            return Ok(keys);
        }
        self.open(tenant, &row).await
    }

    /// Returns the keys of this row if they are in memory and still live, and how old they are.
    fn held(&self, tenant: TenantId, row: &KeysRow) -> Option<(Arc<TenantKeys>, Duration)> {
        let life = self.life();
        let cached = self.lock();
        let cached = cached.get(&tenant).filter(|cached| row.is(&cached.value, cached.name))?;
        let age = cached.opened.elapsed();
        (age < life).then(|| (Arc::clone(&cached.keys), age))
    }

    async fn open(&self, tenant: TenantId, row: &KeysRow) -> Result<Arc<TenantKeys>, Error> {
        // Counted from before the question: what the provider said may be as old as that.
        let opened = Instant::now();
        let provider = self.provider()?;
        let mut keys = self.ask(row.plain(&*provider, tenant)).await?.to_keys();
        // The provider's word is new, the keys are the same: what was loaded beside them need not be loaded again.
        if let Some(before) = self.lock().get(&tenant).filter(|before| before.name == row.name()) {
            keys.go_on_with(&before.keys);
        }
        let keys = Arc::new(keys);
        self.purge();
        self.lock().insert(
            tenant,
            Cached { value: row.value().clone(), name: row.name(), keys: Arc::clone(&keys), opened },
        );
        Ok(keys)
    }

    /// Asks again, so that the keys live on; what runs does not wait for it.
    fn renew(self: &Arc<Self>, tenant: TenantId, row: KeysRow) {
        let Ok(question) = self.question(tenant).try_lock_owned() else { return };
        if self.just_failed().is_some() {
            return;
        }
        let keyring = Arc::clone(self);
        tokio::spawn(async move {
            let _asking = question;
            if let Err(error) = keyring.open(tenant, &row).await {
                tracing::warn!(%tenant, %error, "a tenant's keys live on without their provider's word");
            }
        });
    }

    fn question(&self, tenant: TenantId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.asking().entry(tenant).or_default())
    }

    /// Returns the provider, unless it was away a moment ago.
    pub(crate) fn provider(&self) -> Result<Arc<dyn KeyProvider>, Error> {
        match self.just_failed() {
            Some(error) => Err(error),
            None => Ok(Arc::clone(&self.provider)),
        }
    }

    fn just_failed(&self) -> Option<Error> {
        let trouble = self.trouble();
        let trouble = trouble.as_ref().filter(|trouble| trouble.last.elapsed() < trouble.pause);
        trouble
            .map(|trouble| trouble.error.clone())
            .filter(|error| matches!(error, Error::KeyProviderAway(_)))
    }

    /// Asks the provider something, and remembers whether it answered.
    pub(crate) async fn ask<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let began = Instant::now();
        let answer = question.await;
        let now = Instant::now();
        let pause = ((now - began) * PAUSE_OF_WAITS).clamp(PAUSE, LONGEST_PAUSE);
        let mut trouble = self.trouble();
        match &answer {
            Ok(_) => {
                if let Some(over) = trouble.take() {
                    let seconds = over.since.elapsed().as_secs();
                    tracing::info!(seconds, "the key provider answers again");
                }
            }
            // One key that is gone says nothing of the others.
            Err(
                error @ (Error::KeyProviderAway(_) | Error::KeyProviderDenied(_) | Error::KeyProvider(_)),
            ) => {
                if trouble.is_none() {
                    tracing::error!(%error, "the key provider does not give keys");
                }
                let since = trouble.as_ref().map_or(now, |trouble| trouble.since);
                *trouble = Some(Trouble { error: error.clone(), since, last: now, pause });
            }
            Err(_) => {}
        }
        answer
    }

    pub(crate) fn health(&self) -> KeyHealth {
        self.purge();
        let trouble = self.trouble();
        let trouble = trouble.as_ref().map(|trouble| (trouble.error.clone(), trouble.since.elapsed()));
        let cached = self.lock();
        KeyHealth {
            trouble,
            cached: cached.len(),
            oldest: cached.values().map(|cached| cached.opened.elapsed()).max().unwrap_or_default(),
            life: self.life(),
            platform: cached.contains_key(&TenantId::PLATFORM),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Cached>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asking(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
