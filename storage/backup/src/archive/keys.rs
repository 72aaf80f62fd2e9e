use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use aesp_storage::BackupKey;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    ArchiveKey, name,
    objects::{Objects, Put},
};
use crate::{ClusterId, Error};

/// The backup keys of an archive, unwrapped as they are needed.
pub(crate) struct Keys {
    cluster: ClusterId,
    provider: ArchiveKey,
    unwrapped: Mutex<BTreeMap<u32, Arc<BackupKey>>>,
}

/// How a key lies in the archive.
#[derive(Serialize, Deserialize)]
struct KeyObject {
    format: u16,
    /// What unwraps it.
    provider: String,
    /// In base 64.
    wrapped: String,
}

const FORMAT: u16 = 1;

impl Keys {
    pub(crate) fn new(cluster: ClusterId, provider: ArchiveKey) -> Self {
        Self { cluster, provider, unwrapped: Mutex::default() }
    }

    /// Returns the newest key.
    pub(crate) fn current(&self) -> Result<(u32, Arc<BackupKey>), Error> {
        let keys = self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = keys.last_key_value().map(|(number, key)| (*number, Arc::clone(key)));
        newest.ok_or_else(|| Error::Missing { object: name::KEYS.into() })
    }

    /// Returns what unwraps the keys.
    pub(crate) fn provider(&self) -> &str {
        &self.provider.description
    }

    /// Unwraps the newest key. Returns its number; nothing if there is none.
    pub(crate) async fn load_newest(&self, objects: &Objects) -> Result<Option<u32>, Error> {
        let found = objects.list(name::KEYS).await?;
        let newest = found.iter().filter_map(|(name, _)| name::number::<u32>(name)).max();
        if let Some(number) = newest {
            self.get(objects, number).await?;
        }
        Ok(newest)
    }

    /// Returns a key by its number.
    pub(crate) async fn get(&self, objects: &Objects, number: u32) -> Result<Arc<BackupKey>, Error> {
        let known = self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
        if let Some(key) = known {
            return Ok(key);
        }
        let name = name::key(number);
        let object = objects.get(&name).await?;
        let object: KeyObject = serde_json::from_slice(&object)
            .map_err(|error| Error::damaged(&name, format!("it is no backup key: {error}")))?;
        if object.format > FORMAT {
            return Err(Error::NewerFormat { object: name, found: object.format, known: FORMAT });
        }
        let wrapped = data_encoding::BASE64.decode(object.wrapped.as_bytes());
        let wrapped = wrapped.map_err(|_| Error::damaged(&name, "it is not in base 64"))?;
        let unwrapped = BackupKey::unwrap(&*self.provider.provider, &wrapped, &self.aad(number))
            .await
            .map_err(|source| Error::BackupKey { key: number, provider: object.provider, source })?;
        Ok(self.keep(number, unwrapped))
    }

    /// Draws a new key, which becomes the newest.
    pub(crate) async fn create(&self, objects: &Objects, number: u32) -> Result<u32, Error> {
        let provider = self.provider.description.clone();
        let created = BackupKey::create(&*self.provider.provider, &self.aad(number)).await;
        let (key, wrapped) =
            created.map_err(|source| Error::BackupKey { key: number, provider: provider.clone(), source })?;
        let object = KeyObject { format: FORMAT, provider, wrapped: data_encoding::BASE64.encode(&wrapped) };
        let object = serde_json::to_vec(&object).map_err(|error| Error::Target(error.to_string()))?;
        match objects.create(&name::key(number), Bytes::from(object)).await? {
            Put::Written(_) => {
                self.keep(number, key);
            }
            // Another node was faster; its key is as good.
            Put::Taken => {
                self.get(objects, number).await?;
            }
        }
        Ok(number)
    }

    fn keep(&self, number: u32, key: BackupKey) -> Arc<BackupKey> {
        let key = Arc::new(key);
        self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(&key));
        key
    }

    /// Binds a wrapped key to its cluster and number.
    fn aad(&self, number: u32) -> Vec<u8> {
        format!("AESP backup key {number} of {}", self.cluster).into_bytes()
    }
}
