use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    Error, KeyProvider,
    seal::{KEY_BYTES, SealingKey, random_key},
};

/// A master key in a file of 32 bytes that only its owner may read. For one machine, and for development.
pub struct FileKeyProvider(SealingKey);

const OWNER_ONLY: u32 = 0o600;
const OTHERS: u32 = 0o077;

impl FileKeyProvider {
    /// Draws a master key and writes it to a new file with mode 0600, durably.
    ///
    /// # Errors
    /// [`Error::KeyProvider`] if there is such a file already or it can't be written.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let key = random_key()?;
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
            file.write_all(key.as_slice())?;
            file.sync_all()?;
            // The name must be durable as well, or the key is lost with the next power failure.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| refused(path, &format!("can't be created: {error}")))?;
        Ok(Self(SealingKey::new(&key)))
    }

    /// Reads the master key.
    ///
    /// # Errors
    /// [`Error::KeyProvider`] if the file is missing, has not exactly 32 bytes, or may be read by others.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file =
            File::open(path).map_err(|error| refused(path, &format!("can't be opened: {error}")))?;
        let metadata = file.metadata().map_err(|error| refused(path, &error.to_string()))?;
        if metadata.mode() & OTHERS != 0 {
            return Err(refused(path, "may be read or written by others; run: chmod 600"));
        }
        if metadata.len() != KEY_BYTES as u64 {
            return Err(refused(path, &format!("has {} bytes instead of {KEY_BYTES}", metadata.len())));
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        file.read_exact(key.as_mut_slice()).map_err(|error| refused(path, &error.to_string()))?;
        Ok(Self(SealingKey::new(&key)))
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::KeyProvider(format!("master key file {} {why}", path.display()))
}

#[async_trait]
impl KeyProvider for FileKeyProvider {
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.seal(aad, key)
    }

    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.open(aad, wrapped).ok_or(Error::WrongMasterKey)
    }
}

impl std::fmt::Debug for FileKeyProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileKeyProvider")
    }
}
