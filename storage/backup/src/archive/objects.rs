use std::{fmt, io};

use aesp_proto::chain;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::{Error, Target, target::Connection};

/// The objects of an archive, by their names within it.
pub(crate) struct Objects(Connection);

/// The SHA-256 of an object, as it lies in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Digest {
    pub(crate) fn of(object: &[u8]) -> Self {
        Self(Sha256::digest(object).into())
    }
}

/// In JSON: 64 hexadecimal digits.
impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str> as serde::Deserialize>::deserialize(deserializer)?;
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("not a digest of 64 hexadecimal digits"))
    }
}

/// Whether an object was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is there now, and what was read back is what was written.
    Written(Digest),
    /// Somebody else has written it before.
    Taken,
}

impl Objects {
    pub(crate) fn open(target: &Target, write: bool) -> Result<Self, Error> {
        Connection::open(target, write).map(Self)
    }

    fn path(&self, name: &str) -> Path {
        let parts = self.0.prefix.parts().chain(name.split('/').map(Into::into));
        parts.collect()
    }

    /// Writes an object that must not be there yet, and reads it back.
    pub(crate) async fn create(&self, name: &str, object: Bytes) -> Result<Put, Error> {
        let path = self.path(name);
        let store = self.0.writer()?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = store.put_opts(&path, PutPayload::from_bytes(object.clone()), options);
        let put = self.in_time(name, put).await;
        // An answer can be lost and the request be made again: what lies there may be ours. So it is compared in any case.
        let taken = match put {
            Ok(_) => false,
            Err(Failure::Store(
                object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
            )) => true,
            Err(error) => return Err(error.into_error(name)),
        };
        let found = self.get(name).await?;
        match (found == object, taken) {
            (true, _) => Ok(Put::Written(Digest::of(&object))),
            (false, true) => Ok(Put::Taken),
            (false, false) => Err(Error::damaged(name, "what was read back is not what was written")),
        }
    }

    /// Reads a whole object.
    pub(crate) async fn get(&self, name: &str) -> Result<Bytes, Error> {
        self.find(name).await?.ok_or_else(|| Error::Missing { object: name.into() })
    }

    /// Reads a whole object that may not be there.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let path = self.path(name);
        let get = async { self.0.reader.get(&path).await?.bytes().await };
        match self.in_time(name, get).await {
            Ok(object) => Ok(Some(object)),
            Err(Failure::Store(object_store::Error::NotFound { .. })) => Ok(None),
            Err(error) => Err(error.into_error(name)),
        }
    }

    /// Returns the names below `folder` with their sizes, in the order of the names.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, Error> {
        let path = self.path(folder);
        let list = self.0.reader.list(Some(&path)).try_collect::<Vec<_>>();
        let found = self.in_time(folder, list).await.map_err(|error| error.into_error(folder))?;
        let names = found.into_iter().filter_map(|meta| {
            let rest: Vec<_> =
                meta.location.prefix_match(&self.0.prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some((rest.join("/"), meta.size))
        });
        let mut names: Vec<_> = names.collect();
        names.sort();
        Ok(names)
    }

    async fn in_time<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, Failure> {
        match timeout(self.0.request_time(), work).await {
            Ok(done) => done.map_err(Failure::Store),
            Err(_) => {
                tracing::warn!(name, "the object store does not answer");
                Err(Failure::Slow)
            }
        }
    }

    /// Removes an object; tells whether the object store let it.
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, Error> {
        let path = self.path(name);
        match self.in_time(name, self.0.reader.delete(&path)).await {
            Ok(()) | Err(Failure::Store(object_store::Error::NotFound { .. })) => Ok(true),
            // An object lock says it like this.
            Err(Failure::Store(object_store::Error::PermissionDenied { .. })) => Ok(false),
            Err(error) => Err(error.into_error(name)),
        }
    }
}

enum Failure {
    Store(object_store::Error),
    Slow,
}

impl Failure {
    fn into_error(self, name: &str) -> Error {
        use object_store::Error as Store;
        let error = match self {
            Self::Slow => {
                return Error::unavailable(format!("{name}: no answer in time"));
            }
            Self::Store(error) => error,
        };
        if is_full(&error) {
            return Error::Full;
        }
        match &error {
            Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => Error::Refused(chain(&error)),
            Store::NotFound { .. } => Error::Missing { object: name.into() },
            _ => Error::unavailable(chain(&error)),
        }
    }
}

/// Tells whether the disk or the quota is at its end. Object stores say so with status 507, or 403 and a code of their own.
fn is_full(error: &object_store::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            return matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
        }
        next = error.source();
    }
    let text = error.to_string();
    ["507 Insufficient Storage", "QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity"]
        .iter()
        .any(|mark| text.contains(mark))
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}
