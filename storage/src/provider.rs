use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{Error, seal::SealingKey};

/// A version of a master key, as its provider names it: a number, or a name of its own making.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyVersion(pub Arc<str>);

impl From<u64> for KeyVersion {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Holds the master key, which wraps the tenants' keys. The master key never leaves it.
///
/// What is wrapped names the version that wrapped it. Errors tell what the caller does next: [`Error::KeyProviderAway`],
/// [`Error::KeyProviderDenied`], [`Error::MasterKeyGone`], [`Error::WrongMasterKey`] or [`Error::KeyProvider`]. Each call returns
/// within a few seconds, whatever the provider does.
#[async_trait]
pub trait KeyProvider: Send + Sync + 'static {
    /// Wraps a key under the newest version; `aad` says whose it is and must be the same when it is unwrapped.
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error>;

    /// Unwraps a key, whichever version wrapped it.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`] if it was wrapped under another master key or for somebody else, or was changed.
    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error>;

    /// Returns the version that a key was wrapped under, without asking anybody.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`] if another kind of provider wrapped it.
    fn version_of(&self, wrapped: &[u8]) -> Result<KeyVersion, Error>;

    /// Returns the version that wraps now. Shows as well that the provider answers.
    async fn current(&self) -> Result<KeyVersion, Error>;

    /// Makes a new version, which wraps from now on; the older ones still unwrap.
    async fn rotate(&self) -> Result<KeyVersion, Error>;

    /// Returns the name of the master key, for operators and for what a backup says that it needs. No secret.
    fn describe(&self) -> String;
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

    fn version_of(&self, _: &[u8]) -> Result<KeyVersion, Error> {
        Ok(1.into())
    }

    async fn current(&self) -> Result<KeyVersion, Error> {
        Ok(1.into())
    }

    async fn rotate(&self) -> Result<KeyVersion, Error> {
        Err(Error::KeyProvider("a key that nobody keeps is not rotated".into()))
    }

    fn describe(&self) -> String {
        "none".into()
    }
}
