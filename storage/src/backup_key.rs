use crate::{
    Error, KeyProvider,
    seal::{KEY_BYTES, SealingKey, random_key},
};

/// A key that seals the objects of a backup archive. Only the key provider can unwrap it again.
pub struct BackupKey(SealingKey);

impl BackupKey {
    /// Draws a key; returns it with its wrapped form. `aad` says whose it is.
    ///
    /// # Errors
    /// That of the key provider.
    pub async fn create(provider: &dyn KeyProvider, aad: &[u8]) -> Result<(Self, Vec<u8>), Error> {
        let key = random_key()?;
        let wrapped = provider.wrap(key.as_slice(), aad).await?;
        Ok((Self(SealingKey::new(&key)), wrapped))
    }

    /// Unwraps a key.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`] if it was wrapped by another provider or for somebody else, or that of the provider.
    pub async fn unwrap(provider: &dyn KeyProvider, wrapped: &[u8], aad: &[u8]) -> Result<Self, Error> {
        let key = zeroize::Zeroizing::new(provider.unwrap(wrapped, aad).await?);
        let key: &[u8; KEY_BYTES] = key.as_slice().try_into().map_err(|_| Error::WrongMasterKey)?;
        Ok(Self(SealingKey::new(key)))
    }

    /// Seals; `aad` must name what it is and where it lies.
    ///
    /// # Errors
    /// [`Error::KeyProvider`] if there is no randomness.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.seal(aad, plaintext)
    }

    /// Opens what [`seal`](Self::seal) sealed; nothing if it was changed, or sealed under another key or `aad`.
    #[must_use]
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(aad, sealed)
    }
}

impl std::fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupKey")
    }
}
