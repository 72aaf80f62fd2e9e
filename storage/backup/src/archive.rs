mod frame;
mod keys;
pub(crate) mod name;
mod objects;
mod plan;
mod rows;

use std::sync::Arc;

use aesp_proto::{Clock, SystemClock, Timestamp};
use aesp_storage::KeyProvider;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::keys::Keys;
pub(crate) use self::{
    frame::{FORMAT, Kind},
    name::{OfLine, OfSnapshot},
    objects::{Digest, Objects, Put},
    plan::{Chain, LineState, Overview, info as snapshot_info},
    rows::{
        ChunkEnd, ChunkHead, LineHead, Manifest, ManifestChunk, SegmentHead, read_segment, write_segment,
    },
};
use crate::{ClusterId, Error, Line, Target};

/// The backups of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Archive(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) objects: Objects,
    pub(crate) cluster: ClusterId,
    pub(crate) keys: Keys,
    shown: String,
}

/// What wraps the backup keys.
#[derive(Clone)]
pub struct ArchiveKey {
    /// The key provider.
    pub provider: Arc<dyn KeyProvider>,
    /// What it is, for who has to find it again at a restore: `file:/etc/aesp/master.key`, `vault:transit/aesp`, …
    pub description: String,
}

/// Whose archive it is.
#[derive(Serialize, Deserialize)]
struct ArchiveObject {
    format: u16,
    cluster: ClusterId,
    began: Timestamp,
}

impl Archive {
    /// Opens the archive at `target`, or begins one for `cluster`.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] if the archive is another's, [`Error::BackupKey`] if the key provider can't unwrap its key.
    pub async fn open(target: &Target, cluster: &ClusterId, key: ArchiveKey) -> Result<Self, Error> {
        let objects = Objects::open(target, true)?;
        if objects.find(name::ARCHIVE).await?.is_none() {
            let began = SystemClock.now();
            let object = ArchiveObject { format: FORMAT, cluster: cluster.clone(), began };
            let object = serde_json::to_vec(&object).map_err(|error| Error::Target(error.to_string()))?;
            // If another node was faster, what it wrote is looked at below.
            objects.create(name::ARCHIVE, Bytes::from(object)).await?;
        }
        let archive = Self::connect(objects, target, Some(cluster), key).await?;
        let Shared { objects, keys, .. } = &*archive.0;
        if keys.load_newest(objects).await?.is_none() {
            keys.create(objects, 1).await?;
        }
        Ok(archive)
    }

    /// Opens an archive that must be there; of any cluster, if none is given. Never writes to it.
    ///
    /// # Errors
    /// [`Error::NoArchive`] if there is none, and those of [`open`](Self::open).
    pub async fn find(target: &Target, cluster: Option<&ClusterId>, key: ArchiveKey) -> Result<Self, Error> {
        let archive = Self::connect(Objects::open(target, false)?, target, cluster, key).await?;
        let Shared { objects, keys, .. } = &*archive.0;
        let newest = keys.load_newest(objects).await?;
        newest.ok_or_else(|| Error::Missing { object: name::KEYS.into() })?;
        Ok(archive)
    }

    async fn connect(
        objects: Objects,
        target: &Target,
        cluster: Option<&ClusterId>,
        key: ArchiveKey,
    ) -> Result<Self, Error> {
        let shown = target.to_string();
        let Some(object) = objects.find(name::ARCHIVE).await? else { return Err(Error::NoArchive(shown)) };
        let object: ArchiveObject = serde_json::from_slice(&object)
            .map_err(|error| Error::damaged(name::ARCHIVE, format!("it makes no sense: {error}")))?;
        if object.format > FORMAT {
            let object_name = name::ARCHIVE.to_owned();
            return Err(Error::NewerFormat { object: object_name, found: object.format, known: FORMAT });
        }
        if let Some(expected) = cluster.filter(|cluster| **cluster != object.cluster) {
            return Err(Error::OtherCluster { expected: expected.clone(), found: object.cluster });
        }
        let keys = Keys::new(object.cluster.clone(), key);
        Ok(Self(Arc::new(Shared { objects, cluster: object.cluster, keys, shown })))
    }

    /// Returns the cluster that the archive belongs to.
    #[must_use]
    pub fn cluster(&self) -> &ClusterId {
        &self.0.cluster
    }

    /// Begins another backup key, which seals what is written from now on by this process. Earlier keys open what they sealed.
    ///
    /// # Errors
    /// That of the key provider or the object store.
    pub async fn rotate_key(&self) -> Result<u32, Error> {
        let Shared { objects, keys, .. } = &*self.0;
        let newest = keys.load_newest(objects).await?.unwrap_or(0);
        keys.create(objects, newest + 1).await
    }
}

impl Shared {
    fn place<'a>(&'a self, kind: Kind, line: Line, name: &'a str) -> frame::Place<'a> {
        frame::Place { kind, cluster: &self.cluster, line, name }
    }

    /// Seals and writes an object that must not be there yet.
    pub(crate) async fn put(
        &self,
        (kind, line, name): (Kind, Line, &str),
        clear: &impl Serialize,
        body: &[u8],
    ) -> Result<(Put, u64), Error> {
        let (number, key) = self.keys.current()?;
        let object = frame::encode(self.place(kind, line, name), (number, &key), clear, body)?;
        let size = object.len() as u64;
        Ok((self.objects.create(name, object.into()).await?, size))
    }

    /// Reads and opens an object.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        line: Line,
        name: &str,
    ) -> Result<Opened<T>, Error> {
        let object = self.objects.get(name).await?;
        let place = self.place(kind, line, name);
        let header = frame::header(place, &object)?;
        let key = self.keys.get(&self.objects, header.key).await?;
        let (clear, body) = frame::decode(place, &header, &key, &object)?;
        Ok(Opened { clear, body, digest: Digest::of(&object), size: object.len() as u64 })
    }
}

/// An object that was opened.
pub(crate) struct Opened<T> {
    pub(crate) clear: T,
    pub(crate) body: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive({})", self.0.shown)
    }
}

/// Reads the front of an object that is said to be a segment, as far as it goes without a key.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_header(cluster: &ClusterId, line: Line, object: &[u8]) {
    let place = frame::Place { kind: Kind::Segment, cluster, line, name: "fuzzed" };
    // That it is refused is as good as that it is read.
    drop(frame::header(place, object));
}
