use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    Error, KeyProvider, KeyVersion,
    seal::{KEY_BYTES, SealingKey, random_key},
};

mod text;

/// Master keys in a file that only its owner may read. For one machine, and for development.
///
/// The file has the 32 bytes of one key, or a line of text for each of its versions, the newest first. It is read again when
/// something was wrapped under a version that is not known: another process has rotated.
pub struct FileKeyProvider {
    path: PathBuf,
    keys: Mutex<Keys>,
}

/// The versions, the newest first; never empty.
type Keys = Vec<(u64, Arc<SealingKey>)>;

const OWNER_ONLY: u32 = 0o600;
const OTHERS: u32 = 0o077;
/// More than a thousand versions.
const MOST_BYTES: u64 = 128 * 1024;

/// What stands before a key that was wrapped under a later version than the first: then the version, 8 bytes.
const MARK: &[u8] = b"aesp-file:";

impl FileKeyProvider {
    /// Draws a master key and writes it to a new file with mode 0600, durably.
    ///
    /// # Errors
    /// [`Error::KeyProvider`] if there is such a file already or it can't be written.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let key = random_key()?;
        write_new(path, key.as_slice())
            .and_then(|()| sync_folder(path))
            .map_err(|error| refused(path, &format!("can't be created: {error}")))?;
        Ok(Self { path: path.to_owned(), keys: Mutex::new(vec![(1, Arc::new(SealingKey::new(&key)))]) })
    }

    /// Reads the master keys.
    ///
    /// # Errors
    /// [`Error::KeyProvider`] if the file is missing, has not the form of one, or may be read by others.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let keys = text::parse(&read(path)?).map_err(|why| refused(path, &why))?;
        Ok(Self { path: path.to_owned(), keys: Mutex::new(sealing(&keys)) })
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, version: u64) -> Option<Arc<SealingKey>> {
        self.keys().iter().find(|(known, _)| *known == version).map(|(_, key)| Arc::clone(key))
    }

    fn reload(&self) -> Result<(), Error> {
        let keys = text::parse(&read(&self.path)?).map_err(|why| refused(&self.path, &why))?;
        *self.keys() = sealing(&keys);
        Ok(())
    }

    /// Adds a version to the file, in one step.
    fn add_version(&self) -> Result<u64, Error> {
        let path = &self.path;
        let failed = |error: io::Error| refused(path, &format!("can't be replaced: {error}"));
        let mut name = path.as_os_str().to_owned();
        name.push(".rotating");
        let draft = PathBuf::from(name);
        // INVARIANT: whoever makes the draft rotates; nobody adds to a file that another has replaced meanwhile.
        let mut lock = OpenOptions::new();
        lock.write(true).create_new(true).mode(OWNER_ONLY);
        let mut file = lock.open(&draft).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                refused(&draft, "is there: another rotation runs, or was broken off; if none runs, remove it")
            }
            _ => failed(error),
        })?;
        let replaced = read(path).and_then(|bytes| {
            let mut keys = text::parse(&bytes).map_err(|why| refused(path, &why))?;
            let version = keys[0].0.checked_add(1).ok_or_else(|| refused(path, "has no further version"))?;
            keys.insert(0, (version, random_key()?));
            let text = text::write(&keys);
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            fs::rename(&draft, path).and_then(|()| sync_folder(path)).map_err(failed)?;
            *self.keys() = sealing(&keys);
            Ok(version)
        });
        if replaced.is_err() {
            // A draft that stays is told by the next rotation.
            drop(fs::remove_file(&draft));
        }
        replaced
    }
}

fn sealing(keys: &[(u64, Zeroizing<[u8; KEY_BYTES]>)]) -> Keys {
    keys.iter().map(|(version, key)| (*version, Arc::new(SealingKey::new(key)))).collect()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The name must be durable as well, or the key is lost with the next power failure.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let file = File::open(path).map_err(|error| refused(path, &format!("can't be opened: {error}")))?;
    let metadata = file.metadata().map_err(|error| refused(path, &error.to_string()))?;
    if metadata.mode() & OTHERS != 0 {
        return Err(refused(path, "may be read or written by others; run: chmod 600"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|error| refused(path, &error.to_string()))?;
    Ok(bytes)
}

fn refused(path: &Path, why: &str) -> Error {
    Error::KeyProvider(format!("master key file {} {why}", path.display()))
}

/// Takes apart what was wrapped: its version, and what is sealed. The first version stands alone, as releases without versions
/// wrote it.
fn parts(wrapped: &[u8]) -> (u64, &[u8]) {
    let marked = wrapped.strip_prefix(MARK).and_then(|rest| rest.split_first_chunk::<8>());
    marked.map_or((1, wrapped), |(version, sealed)| (u64::from_be_bytes(*version), sealed))
}

#[async_trait]
impl KeyProvider for FileKeyProvider {
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let (version, master) = self.keys()[0].clone();
        if version == 1 {
            return master.seal(aad, key);
        }
        master.seal_after(&[MARK, &version.to_be_bytes()].concat(), aad, key)
    }

    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let (version, sealed) = parts(wrapped);
        if self.known(version).is_none() {
            self.reload()?;
        }
        let Some(master) = self.known(version) else {
            let gone = format!("version {version} is not in {}", self.path.display());
            return Err(Error::MasterKeyGone(gone.into()));
        };
        master.open(aad, sealed).ok_or(Error::WrongMasterKey)
    }

    fn version_of(&self, wrapped: &[u8]) -> Result<KeyVersion, Error> {
        Ok(parts(wrapped).0.into())
    }

    async fn current(&self) -> Result<KeyVersion, Error> {
        // Another process may have rotated.
        self.reload()?;
        Ok(self.keys()[0].0.into())
    }

    async fn rotate(&self) -> Result<KeyVersion, Error> {
        Ok(self.add_version()?.into())
    }

    fn describe(&self) -> String {
        format!("file:{}", self.path.display())
    }
}

impl std::fmt::Debug for FileKeyProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileKeyProvider")
    }
}
