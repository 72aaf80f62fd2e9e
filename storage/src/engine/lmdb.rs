mod apply;
mod copy;
mod disk;
mod environment;
mod journal;
mod registry;
mod snapshot;
mod watcher;
mod writer;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use tokio::{
    sync::{Semaphore, oneshot},
    task::spawn_blocking,
    time::timeout,
};

pub use self::{
    copy::{Chunk, Inventory, Keep, Restoring},
    journal::{
        Change, Journal, JournalPart, JournalRecord, JournalState, JournalStop, StopReason,
        record::{decode as decode_changes, encode as encode_changes},
    },
};
use self::{
    environment::Environment,
    snapshot::LmdbSnapshot,
    watcher::Watcher,
    writer::{Claim, Job, Writer},
};
use super::{Commit, Engine, Snapshot, Versionstamp, Watch};
use crate::{Error, TRANSACTION_TIME};

/// How the LMDB engine is opened. All processes that share an environment must give the same.
#[derive(Clone, Debug)]
pub struct LmdbOptions {
    /// The most that the store can ever hold, in bytes; the file grows as needed, some blocks ahead. An eighth of it, at most
    /// 256 MB (16 MB of the disk), is kept for removals and revocations when the rest is full.
    pub map_size_bytes: usize,
    /// The most transactions that read at the same time, in all processes. One process uses a quarter at most.
    pub max_readers: u32,
}

impl Default for LmdbOptions {
    fn default() -> Self {
        Self { map_size_bytes: 64 << 30, max_readers: 1024 }
    }
}

/// Keeps everything in an LMDB environment that several processes of one machine may share.
///
/// Reads happen in the calling task, from the map, in about a microsecond. Commits go to one thread, which writes all
/// that are waiting with one sync (group commit). A transaction is serializable because the writer looks again at
/// everything that it has read and refuses it if anything differs.
///
/// Two engines of one process on one environment are one.
#[derive(Clone)]
pub struct LmdbEngine(Arc<Inner>);

// The threads come first: they are joined before the environment is closed.
struct Inner {
    writer: Writer,
    watcher: Watcher,
    environment: Arc<Environment>,
    readers: Arc<Semaphore>,
}

impl LmdbEngine {
    /// Opens the environment in the folder `path`, or creates it.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the folder holds something else or a broken store, [`Error::Unavailable`] if it can't be used,
    /// on a network file system for example.
    pub async fn open(path: &Path, options: LmdbOptions) -> Result<Self, Error> {
        let path = path.to_owned();
        let opened = spawn_blocking(move || registry::open(&path, &options)).await;
        opened.map_err(|error| Error::unavailable(format!("opening the store failed: {error}")))?.map(Self)
    }
}

impl Inner {
    fn start(environment: Environment, options: &LmdbOptions) -> Result<Self, Error> {
        let environment = Arc::new(environment);
        let watcher = Watcher::start(Arc::clone(&environment))?;
        let writer = Writer::start(Arc::clone(&environment), watcher.state())?;
        let readers = Arc::new(Semaphore::new((options.max_readers as usize / 4).max(1)));
        Ok(Self { writer, watcher, environment, readers })
    }
}

/// Does what may wait for a disk or for the write lock where that holds up nobody.
async fn blocking<T: Send + 'static>(
    inner: &Arc<Inner>,
    work: impl FnOnce(&Environment) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let inner = Arc::clone(inner);
    let done = spawn_blocking(move || work(&inner.environment)).await;
    done.map_err(|error| Error::unavailable(format!("work on the store was cut off: {error}")))?
}

#[async_trait]
impl Engine for LmdbEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        // The table of readers is shared and bounded; whoever comes late waits here instead of failing there.
        let permit = Arc::clone(&self.0.readers).acquire_owned().await;
        let permit = permit.map_err(|_| Error::unavailable("the store was closed"))?;
        Ok(Box::new(LmdbSnapshot::open(&self.0.environment, permit)?))
    }

    async fn commit(&self, mut commit: Commit) -> Result<Versionstamp, Error> {
        // The snapshot ends here: a waiting commit must keep neither a reader's place nor old pages.
        let version = commit.snapshot.take().map(|snapshot| snapshot.version());
        let (reply, answer) = oneshot::channel();
        let claim = Claim::default();
        self.0.writer.submit(Job { commit, version, claim: claim.clone(), reply })?;
        match timeout(TRANSACTION_TIME, answer).await {
            Ok(Ok(result)) => result,
            Err(_) if claim.withdraw() => {
                Err(Error::unavailable("the write lock of the store is held by another process for too long"))
            }
            // The writer is at it, or died at it.
            Ok(Err(_)) | Err(_) => Err(Error::CommitUnknown),
        }
    }

    fn watch(&self, key: &[u8]) -> Watch {
        let watching = self.0.watcher.watch(key);
        Box::pin(async move { watching?.await.map_err(|_| Error::unavailable("the store was closed")) })
    }
}
