use async_trait::async_trait;

use crate::{Error, seal::SealingKey};

/// Holds the master key, which wraps the tenants' keys. The master key never leaves it.
#[async_trait]
pub trait KeyProvider: Send + Sync + 'static {
    /// Wraps a key; `aad` says whose it is and must be the same when it is unwrapped.
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error>;

    /// Unwraps a key.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`] if it was wrapped under another master key or for somebody else, or was changed.
    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error>;
}

/// A master key that is gone when the process ends. For tests.
pub(crate) struct ThrowAwayKeyProvider(SealingKey);

impl ThrowAwayKeyProvider {
    pub(crate) fn new() -> Self {
        Self(SealingKey::generate().expect("the system has randomness"))
    }
}

#[async_trait]
impl KeyProvider for ThrowAwayKeyProvider {
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.seal(aad, key)
    }

    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.open(aad, wrapped).ok_or(Error::WrongMasterKey)
    }
}
