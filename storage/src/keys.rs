//! What transactions do with tenants' keys.

use std::{sync::Arc, time::Duration};

use aesp_proto::TenantId;

use crate::{
    Blind, Error, KeyHealth, KeyVersion, Kind, Row, Store, TenantKeys, Transaction,
    key::row_key,
    keys_row::{KeysRow, keys_key},
    tenant_keys::PlainKeys,
};

impl Transaction {
    /// Draws the tenant's keys. They can be used in this transaction already.
    ///
    /// # Errors
    /// [`Error::KeysExist`] if it has keys, or that of the key provider.
    pub async fn create_tenant_keys(&self, tenant: TenantId) -> Result<(), Error> {
        let key = keys_key(tenant);
        if self.get_raw(&key).await?.is_some() {
            return Err(Error::KeysExist { tenant });
        }
        let keyring = &self.shared.keyring;
        let (plain, provider) = (PlainKeys::generate()?, keyring.provider()?);
        let row = keyring.ask(KeysRow::first(&plain, &*provider, tenant)).await?;
        self.set_raw(&key, &row)
    }

    /// Destroys the tenant's keys: whatever they sealed, in the store and in every backup, can't be read any more.
    /// The hash chain of the audit log still verifies.
    ///
    /// # Errors
    /// [`Error::KeyDestroyed`] if it has none.
    pub async fn destroy_tenant_keys(&self, tenant: TenantId) -> Result<(), Error> {
        let key = keys_key(tenant);
        if self.get_raw(&key).await?.is_none() {
            return Err(Error::KeyDestroyed { tenant });
        }
        self.clear_raw(&key)?;
        let mut state = self.state();
        state.keys.remove(&tenant);
        state.destroyed.push(tenant);
        Ok(())
    }

    /// Returns the tenant's keys. They hold for this transaction: don't keep them.
    ///
    /// # Errors
    /// [`Error::KeyDestroyed`] if it has none; that of the key provider if they are not in memory.
    pub async fn tenant_keys(&self, tenant: TenantId) -> Result<Arc<TenantKeys>, Error> {
        if let Some(keys) = self.state().keys.get(&tenant) {
            return Ok(Arc::clone(keys));
        }
        let keyring = &self.shared.keyring;
        let Some(row) = self.keys_row(tenant).await? else {
            keyring.forget(tenant);
            return Err(Error::KeyDestroyed { tenant });
        };
        let keys = keyring.unwrapped(tenant, row).await?;
        self.state().keys.insert(tenant, Arc::clone(&keys));
        Ok(keys)
    }

    pub(crate) async fn keys_row(&self, tenant: TenantId) -> Result<Option<KeysRow>, Error> {
        let value = self.get_raw(&keys_key(tenant)).await?;
        value.map(|value| KeysRow::read(tenant, &value)).transpose()
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

    /// Returns the version of the master key that wraps the tenant's keys; nothing if it has none. Asks no provider.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw), or of a damaged row.
    pub async fn wrapped_under(&self, tenant: TenantId) -> Result<Option<KeyVersion>, Error> {
        let row = self.keys_row(tenant).await?;
        row.map(|row| row.version(&*self.shared.keyring.provider)).transpose()
    }

    /// Wraps the tenant's keys under the newest version of the master key, if they are under another; tells whether they were.
    /// Keys in memory go on.
    ///
    /// # Errors
    /// That of the key provider or of the store.
    pub async fn rewrap(&self, tenant: TenantId, current: &KeyVersion) -> Result<bool, Error> {
        let keyring = &self.shared.keyring;
        let Some(row) = self.keys_row(tenant).await? else { return Ok(false) };
        let provider = keyring.provider()?;
        if row.version(&*provider)? == *current {
            return Ok(false);
        }
        let plain = keyring.ask(row.plain(&*provider, tenant)).await?;
        let rewrapped = keyring.ask(row.rewrapped(&plain, &*provider, tenant)).await?;
        self.set_raw(&keys_key(tenant), &rewrapped)?;
        Ok(true)
    }

    /// Wraps the store's canary under the newest version of the master key, if it is under another; tells whether it was.
    ///
    /// # Errors
    /// That of the key provider or of the store.
    pub async fn rewrap_canary(&self, current: &KeyVersion) -> Result<bool, Error> {
        let key = canary_key();
        let keyring = &self.shared.keyring;
        let Some(canary) = self.get_raw(&key).await? else { return Ok(false) };
        let provider = keyring.provider()?;
        if provider.version_of(&canary)? == *current {
            return Ok(false);
        }
        let plain = keyring.ask(provider.unwrap(&canary, &key)).await?;
        if plain != CANARY {
            return Err(Error::WrongMasterKey);
        }
        let wrapped = keyring.ask(provider.wrap(CANARY, &key)).await?;
        self.set_raw(&key, &wrapped)?;
        Ok(true)
    }
}

const CANARY: &[u8] = b"AESP store 1";

fn canary_key() -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::CANARY, &[])
}

impl Store {
    /// Prepares an empty store, or makes sure that the master key is the one that this store was created with.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`] if it isn't; [`Error::Damaged`] if the store has rows but no canary; that of the key provider.
    pub async fn initialise(&self) -> Result<(), Error> {
        self.run(|tx| Box::pin(initialise(tx))).await
    }

    /// Initialises without the runner's timers.
    pub(crate) async fn initialise_once(&self) -> Result<(), Error> {
        let tx = self.begin();
        initialise(&tx).await?;
        let (commit, ..) = tx.into_commit(&self.new_request());
        if let Some(commit) = commit {
            self.shared.engine.commit(commit).await?;
        }
        Ok(())
    }

    /// Says how long tenants' keys are held in memory after the key provider gave them.
    pub fn hold_keys_for(&self, life: Duration) {
        self.shared.keyring.set_life(life);
    }

    /// Tells how the keys are. Asks nobody.
    #[must_use]
    pub fn key_health(&self) -> KeyHealth {
        self.shared.keyring.health()
    }

    /// Returns the version of the master key that wraps now, from its provider.
    ///
    /// # Errors
    /// That of the key provider.
    pub async fn master_key_version(&self) -> Result<KeyVersion, Error> {
        let keyring = &self.shared.keyring;
        keyring.ask(keyring.provider.current()).await
    }

    /// Has the key provider make a new version of the master key, which wraps from now on.
    ///
    /// # Errors
    /// That of the key provider.
    pub async fn rotate_master_key(&self) -> Result<KeyVersion, Error> {
        let keyring = &self.shared.keyring;
        keyring.ask(keyring.provider.rotate()).await
    }

    /// Returns the name of the master key. No secret.
    #[must_use]
    pub fn master_key_name(&self) -> String {
        self.shared.keyring.provider.describe()
    }
}

async fn initialise(tx: &Transaction) -> Result<(), Error> {
    let row = canary_key();
    let keyring = &tx.shared.keyring;
    if let Some(canary) = tx.get_raw(&row).await? {
        let provider = keyring.provider()?;
        let opened = keyring.ask(provider.unwrap(&canary, &row)).await?;
        return if opened == CANARY { Ok(()) } else { Err(Error::WrongMasterKey) };
    }
    if tx.get_raw(&keys_key(TenantId::PLATFORM)).await?.is_some() {
        return Err(Error::damaged_row("the store has keys but no canary"));
    }
    let provider = keyring.provider()?;
    tx.set_raw(&row, &keyring.ask(provider.wrap(CANARY, &row)).await?)?;
    tx.create_tenant_keys(TenantId::PLATFORM).await
}
