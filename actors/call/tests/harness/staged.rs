use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use aesp_proto::{Entropy, SystemClock};
use aesp_storage::{
    Commit, Engine, Error, FileKeyProvider, MemoryEngine, MemoryOptions, Snapshot, Store, Versionstamp, Watch,
};
use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};

/// Holds whoever comes through, as many as it is told, until it lets them on.
pub(crate) struct Gate {
    holds: AtomicUsize,
    held: watch::Sender<usize>,
    lets: Semaphore,
}

impl Gate {
    fn open() -> Arc<Self> {
        Arc::new(Self { holds: AtomicUsize::new(0), held: watch::Sender::new(0), lets: Semaphore::new(0) })
    }

    /// Holds the next one; those after it pass.
    pub(crate) fn hold_next(&self) {
        self.holds.fetch_add(1, SeqCst);
    }

    /// Waits until one is held.
    pub(crate) async fn holds_one(&self) {
        let mut held = self.held.subscribe();
        held.wait_for(|held| *held > 0).await.expect("the gate lives");
    }

    /// Lets one that is held go on.
    pub(crate) fn release(&self) {
        self.lets.add_permits(1);
    }

    async fn pass(&self) {
        if self.holds.fetch_update(SeqCst, SeqCst, |holds| holds.checked_sub(1)).is_ok() {
            self.held.send_modify(|held| *held += 1);
            self.lets.acquire().await.expect("is never closed").forget();
            self.held.send_modify(|held| *held -= 1);
        }
    }
}

/// One node's way to a store in memory: what it reads may come late, and its commits may have to wait.
#[derive(Clone)]
pub(crate) struct Staged {
    base: Arc<MemoryEngine>,
    /// Snapshots that are taken already and not yet there.
    pub(crate) snapshots: Arc<Gate>,
    /// Commits before they are made.
    pub(crate) commits: Arc<Gate>,
}

impl Staged {
    /// Returns the way, the store behind it, and the same store without it, as another node has it.
    pub(crate) fn store(folder: &tempfile::TempDir) -> (Self, Store, Store) {
        let key = FileKeyProvider::create(&folder.path().join("master.key")).expect("a key");
        let key = Arc::new(key);
        let base = Arc::new(MemoryEngine::new(MemoryOptions::default()));
        let staged = Self { base: Arc::clone(&base), snapshots: Gate::open(), commits: Gate::open() };
        let store = |engine: Arc<dyn Engine>| {
            Store::new(engine, key.clone(), Arc::new(SystemClock), Entropy::from_system())
        };
        (staged.clone(), store(Arc::new(staged)), store(base))
    }
}

#[async_trait]
impl Engine for Staged {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        let snapshot = self.base.snapshot().await?;
        self.snapshots.pass().await;
        Ok(snapshot)
    }

    async fn commit(&self, commit: Commit) -> Result<Versionstamp, Error> {
        self.commits.pass().await;
        self.base.commit(commit).await
    }

    fn watch(&self, key: &[u8]) -> Watch {
        self.base.watch(key)
    }
}
