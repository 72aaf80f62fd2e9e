use std::path::Path;

use async_trait::async_trait;

use super::{Commit, Engine, Snapshot, Versionstamp, Watch};
use crate::Error;

/// How the LMDB engine is opened.
#[derive(Clone, Debug)]
pub struct LmdbOptions {
    /// The most that the store can ever hold, in bytes; the file is sparse and grows as needed.
    pub map_size_bytes: usize,
    /// The most transactions that read at the same time, in all processes.
    pub max_readers: u32,
}

impl Default for LmdbOptions {
    fn default() -> Self {
        Self { map_size_bytes: 64 << 30, max_readers: 1024 }
    }
}

/// Keeps everything in an LMDB environment that several processes of one machine may share.
#[derive(Clone, Debug)]
pub struct LmdbEngine {}

impl LmdbEngine {
    /// Opens the environment in the folder `path`, or creates it.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is something else, [`Error::Unavailable`] if it can't be opened.
    pub async fn open(_path: &Path, _options: LmdbOptions) -> Result<Self, Error> {
        Err(Error::unavailable("not built yet"))
    }
}

#[async_trait]
impl Engine for LmdbEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Err(Error::unavailable("not built yet"))
    }

    async fn commit(&self, _: Commit) -> Result<Versionstamp, Error> {
        Err(Error::unavailable("not built yet"))
    }

    fn watch(&self, _: &[u8]) -> Watch {
        Box::pin(async { Err(Error::unavailable("not built yet")) })
    }
}
