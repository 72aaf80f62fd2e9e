use std::sync::Arc;

use aesp_keys::{AzureKeyVault, Pkcs11, Vault};
use aesp_storage::{Error, FileKeyProvider, KeyProvider};

use crate::config::{Keys, KeysProvider};

/// Opens the provider of the master key that is configured.
///
/// # Errors
/// Within seconds, with what is wrong: it is missing, away, refuses, or has no such key.
pub(crate) async fn open(keys: &Keys) -> Result<Arc<dyn KeyProvider>, Error> {
    let missing = || Error::KeyProvider(format!("there is no section [keys.{}]", keys.provider.name()));
    match keys.provider {
        KeysProvider::File => Ok(Arc::new(FileKeyProvider::open(&keys.master_key_file)?)),
        KeysProvider::Vault => Ok(Arc::new(Vault::open(keys.vault.clone().ok_or_else(missing)?).await?)),
        KeysProvider::Azure => {
            Ok(Arc::new(AzureKeyVault::open(keys.azure.clone().ok_or_else(missing)?).await?))
        }
        KeysProvider::Pkcs11 => Ok(Arc::new(Pkcs11::open(keys.pkcs11.clone().ok_or_else(missing)?).await?)),
    }
}

/// As [`open`], for a new store: makes the file where the master key is to be one. Elsewhere its operators make the key.
pub(crate) async fn create(keys: &Keys) -> Result<Arc<dyn KeyProvider>, Error> {
    let path = &keys.master_key_file;
    if keys.provider == KeysProvider::File && !path.exists() {
        return Ok(Arc::new(FileKeyProvider::create(path)?));
    }
    open(keys).await
}
