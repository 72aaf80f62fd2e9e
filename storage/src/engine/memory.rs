mod versions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aesp_proto::Entropy;
use async_trait::async_trait;
use bytes::Bytes;

use self::versions::Versions;
use super::{
    Commit, Engine, Snapshot, Turbulence, Versionstamp, Watch, turbulence::Fate, versionstamp,
    watches::Watches,
};
use crate::{Error, Range};

/// How the memory engine behaves.
#[derive(Clone, Debug, Default)]
pub struct MemoryOptions {
    /// Like a store across a network, if given; otherwise everything is instant.
    pub turbulence: Option<Turbulence>,
}

impl MemoryOptions {
    /// Behaves like FoundationDB: 1 ms reads, spurious conflicts, unknown commits, so that nothing later is a surprise.
    #[must_use]
    pub fn fdb_like() -> Self {
        Self { turbulence: Some(Turbulence::default()) }
    }
}

/// Keeps everything in memory, in versions. Forgets everything when it is dropped.
#[derive(Debug)]
pub struct MemoryEngine {
    versions: Arc<Mutex<Versions>>,
    watches: Watches,
    turbulence: Option<(Turbulence, Entropy)>,
}

impl MemoryEngine {
    /// Creates an empty store.
    #[must_use]
    pub fn new(options: MemoryOptions) -> Self {
        let turbulence = options.turbulence.map(|turbulence| {
            let entropy = Entropy::from_seed(turbulence.seed);
            (turbulence, entropy)
        });
        Self { versions: Arc::default(), watches: Watches::default(), turbulence }
    }

    fn apply(&self, commit: &Commit) -> Result<Versionstamp, Error> {
        let mut versions = lock(&self.versions);
        if versions.conflicts(commit) {
            return Err(Error::Conflict);
        }
        let stamp = versionstamp(versions.next(), 0);
        versions.apply(&commit.mutations, &stamp);
        for key in self.watches.touched(&commit.mutations) {
            self.watches.now(&key, versions.latest(&key).as_deref());
        }
        Ok(stamp)
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        let version = lock(&self.versions).open();
        let read = self.turbulence.as_ref().map(|(turbulence, _)| turbulence.read);
        Ok(Box::new(MemorySnapshot { versions: Arc::clone(&self.versions), version, read }))
    }

    async fn commit(&self, commit: Commit) -> Result<Versionstamp, Error> {
        let Some((turbulence, entropy)) = &self.turbulence else { return self.apply(&commit) };
        let fate = turbulence.fate(entropy);
        tokio::time::sleep(turbulence.commit).await;
        match fate {
            Fate::Normal => self.apply(&commit),
            Fate::Refused => Err(Error::Conflict),
            Fate::UnknownNotApplied => Err(Error::CommitUnknown),
            Fate::UnknownApplied => {
                self.apply(&commit)?;
                Err(Error::CommitUnknown)
            }
        }
    }

    fn watch(&self, key: &[u8]) -> Watch {
        // Under the lock of the versions, so that no commit comes between the look and the watch.
        let versions = lock(&self.versions);
        let changed = self.watches.add(key, versions.latest(key));
        Box::pin(async move { changed.await.map_err(|_| Error::unavailable("the store was closed")) })
    }
}

#[derive(Debug)]
struct MemorySnapshot {
    versions: Arc<Mutex<Versions>>,
    version: u64,
    read: Option<std::time::Duration>,
}

impl MemorySnapshot {
    async fn wait(&self) {
        if let Some(read) = self.read {
            tokio::time::sleep(read).await;
        }
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        lock(&self.versions).close(self.version);
    }
}

#[async_trait]
impl Snapshot for MemorySnapshot {
    fn version(&self) -> u64 {
        self.version
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.wait().await;
        Ok(lock(&self.versions).get(key, self.version))
    }

    async fn range(&self, range: &Range) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.wait().await;
        Ok(lock(&self.versions).range(range, self.version))
    }
}

fn lock(versions: &Mutex<Versions>) -> MutexGuard<'_, Versions> {
    versions.lock().unwrap_or_else(PoisonError::into_inner)
}
