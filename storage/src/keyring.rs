use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aesp_proto::TenantId;
use bytes::Bytes;

use crate::{Blind, Error, KeyProvider, Kind, Row, Store, TenantKeys, Transaction, key::row_key};

/// The tenants' keys, unwrapped, so that the provider is asked once and not at every transaction.
///
/// Every transaction reads the wrapped keys of its tenants from its own snapshot and takes the cached ones only if they
/// are those. So a destroyed key is refused from the commit on, in every process that shares the store, and a
/// transaction that used a key conflicts with its destruction.
pub(crate) struct Keyring {
    provider: Arc<dyn KeyProvider>,
    cached: Mutex<HashMap<TenantId, Cached>>,
}

struct Cached {
    wrapped: Bytes,
    keys: Arc<TenantKeys>,
}

impl Keyring {
    pub(crate) fn new(provider: Arc<dyn KeyProvider>) -> Self {
        Self { provider, cached: Mutex::default() }
    }

    /// Drops the tenant's keys from memory.
    pub(crate) fn forget(&self, tenant: TenantId) {
        self.lock().remove(&tenant);
    }

    /// Returns the tenant's keys as they were last seen. A guess, until a transaction has read that they hold.
    fn peek(&self, tenant: TenantId) -> Option<Arc<TenantKeys>> {
        self.lock().get(&tenant).map(|cached| Arc::clone(&cached.keys))
    }

    async fn unwrapped(
        &self,
        tenant: TenantId,
        aad: &[u8],
        wrapped: Bytes,
    ) -> Result<Arc<TenantKeys>, Error> {
        if let Some(cached) = self.lock().get(&tenant).filter(|cached| cached.wrapped == wrapped) {
            return Ok(Arc::clone(&cached.keys));
        }
        let sealed = wrapped.strip_prefix(&[VERSION]).ok_or_else(|| {
            Error::damaged(
                format!("the keys of tenant {tenant} have an unknown version"),
                "start the release that wrote the store, or restore a backup",
            )
        })?;
        let keys = Arc::new(TenantKeys::from_plain(self.provider.unwrap(sealed, aad).await?)?);
        self.lock().insert(tenant, Cached { wrapped, keys: Arc::clone(&keys) });
        Ok(keys)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Cached>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const VERSION: u8 = 1;

fn keys_row(tenant: TenantId) -> Vec<u8> {
    row_key(tenant, Kind::TENANT_KEYS, &[])
}

impl Transaction {
    /// Draws the tenant's keys. They can be used in this transaction already.
    ///
    /// # Errors
    /// [`Error::KeysExist`] if it has keys, or that of the key provider.
    pub async fn create_tenant_keys(&self, tenant: TenantId) -> Result<(), Error> {
        let row = keys_row(tenant);
        if self.get_raw(&row).await?.is_some() {
            return Err(Error::KeysExist { tenant });
        }
        let plain = TenantKeys::generate()?;
        let mut value = vec![VERSION];
        value.extend(self.shared.keyring.provider.wrap(&plain, &row).await?);
        self.set_raw(&row, &value)
    }

    /// Destroys the tenant's keys: whatever they sealed, in the store and in every backup, can't be read any more.
    /// The hash chain of the audit log still verifies.
    ///
    /// # Errors
    /// [`Error::KeyDestroyed`] if it has none.
    pub async fn destroy_tenant_keys(&self, tenant: TenantId) -> Result<(), Error> {
        let row = keys_row(tenant);
        if self.get_raw(&row).await?.is_none() {
            return Err(Error::KeyDestroyed { tenant });
        }
        self.clear_raw(&row)?;
        let mut state = self.state();
        state.keys.remove(&tenant);
        state.destroyed.push(tenant);
        Ok(())
    }

    /// Returns the tenant's keys. They hold for this transaction: don't keep them.
    ///
    /// # Errors
    /// [`Error::KeyDestroyed`] if it has none.
    pub async fn tenant_keys(&self, tenant: TenantId) -> Result<Arc<TenantKeys>, Error> {
        if let Some(keys) = self.state().keys.get(&tenant) {
            return Ok(Arc::clone(keys));
        }
        let row = keys_row(tenant);
        let keyring = &self.shared.keyring;
        let Some(wrapped) = self.get_raw(&row).await? else {
            keyring.forget(tenant);
            return Err(Error::KeyDestroyed { tenant });
        };
        let keys = keyring.unwrapped(tenant, &row, wrapped).await?;
        self.state().keys.insert(tenant, Arc::clone(&keys));
        Ok(keys)
    }

    /// Reads the row whose key is made of a blinded identifier, in the one round trip that the check of the keys takes anyway.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_blinded<R: Row>(
        &self,
        tenant: TenantId,
        text: &str,
        key: impl Fn(Blind) -> R::Key,
    ) -> Result<Option<R>, Error> {
        if let Some(guess) = self.shared.keyring.peek(tenant) {
            let row = self.get::<R>(tenant, &key(guess.blind(R::KIND, text))).await?;
            if Arc::ptr_eq(&guess, &self.tenant_keys(tenant).await?) {
                return Ok(row);
            }
        }
        let blind = self.blind(tenant, R::KIND, text).await?;
        self.get(tenant, &key(blind)).await
    }

    /// Returns a natural identifier (a name, an address) as it may stand in a key: an HMAC under the tenant's index key.
    ///
    /// # Errors
    /// As [`tenant_keys`](Self::tenant_keys).
    pub async fn blind(&self, tenant: TenantId, kind: Kind, text: &str) -> Result<Blind, Error> {
        Ok(self.tenant_keys(tenant).await?.blind(kind, text))
    }
}

const CANARY: &[u8] = b"AESP store 1";

impl Store {
    /// Prepares an empty store, or makes sure that the master key is the one that this store was created with.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`] if it isn't; [`Error::Damaged`] if the store has rows but no canary.
    pub async fn initialise(&self) -> Result<(), Error> {
        self.run(|tx| Box::pin(initialise(tx))).await
    }

    /// Initialises without the runner's timers.
    pub(crate) async fn initialise_once(&self) -> Result<(), Error> {
        let tx = self.begin();
        initialise(&tx).await?;
        let (commit, _) = tx.into_commit(&self.new_request());
        if let Some(commit) = commit {
            self.shared.engine.commit(commit).await?;
        }
        Ok(())
    }
}

async fn initialise(tx: &Transaction) -> Result<(), Error> {
    let row = row_key(TenantId::PLATFORM, Kind::CANARY, &[]);
    let provider = &tx.shared.keyring.provider;
    if let Some(canary) = tx.get_raw(&row).await? {
        return if provider.unwrap(&canary, &row).await? == CANARY {
            Ok(())
        } else {
            Err(Error::WrongMasterKey)
        };
    }
    let keys = keys_row(TenantId::PLATFORM);
    if tx.get_raw(&keys).await?.is_some() {
        return Err(Error::damaged_row("the store has keys but no canary"));
    }
    tx.set_raw(&row, &provider.wrap(CANARY, &row).await?)?;
    tx.create_tenant_keys(TenantId::PLATFORM).await
}
