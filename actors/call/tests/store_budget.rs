//! What a call costs the store: at most two reads one after the other, and one commit; two commits where the intent is
//! recorded first. Counted at the engine, through the whole pipeline.

mod harness;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use aesp_proto::{Entropy, SystemClock};
use aesp_storage::{
    Commit, Engine, Error, FileKeyProvider, MemoryEngine, MemoryOptions, Range, Snapshot, Store,
    Versionstamp, Watch,
};
use async_trait::async_trait;
use bytes::Bytes;

use self::harness::Pipeline;

/// Counts what reaches the engine. Reads that wait together are one round trip.
#[derive(Clone)]
struct Counting {
    inner: Arc<dyn Engine>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    reading: AtomicUsize,
    rounds: AtomicUsize,
    commits: AtomicUsize,
}

impl Counts {
    /// Counts a read. It gives way once, so that one that was started together with it joins its round.
    async fn read<T>(&self, read: impl Future<Output = T>) -> T {
        if self.reading.fetch_add(1, SeqCst) == 0 {
            self.rounds.fetch_add(1, SeqCst);
        }
        tokio::task::yield_now().await;
        let value = read.await;
        self.reading.fetch_sub(1, SeqCst);
        value
    }

    /// Returns the rounds of reads and the commits since the last time.
    fn take(&self) -> (usize, usize) {
        (self.rounds.swap(0, SeqCst), self.commits.swap(0, SeqCst))
    }
}

#[async_trait]
impl Engine for Counting {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        let inner = self.inner.snapshot().await?;
        Ok(Box::new(CountingSnapshot { inner, counts: self.counts.clone() }))
    }

    async fn commit(&self, commit: Commit) -> Result<Versionstamp, Error> {
        self.counts.commits.fetch_add(1, SeqCst);
        self.inner.commit(commit).await
    }

    fn watch(&self, key: &[u8]) -> Watch {
        self.inner.watch(key)
    }
}

struct CountingSnapshot {
    inner: Box<dyn Snapshot>,
    counts: Arc<Counts>,
}

#[async_trait]
impl Snapshot for CountingSnapshot {
    fn version(&self) -> u64 {
        self.inner.version()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.counts.read(self.inner.get(key)).await
    }

    async fn range(&self, range: &Range) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.counts.read(self.inner.range(range)).await
    }
}

#[tokio::test]
async fn a_call_reads_twice_and_commits_once_or_twice_with_its_intent() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = FileKeyProvider::create(&folder.path().join("master.key")).expect("a key");
    let counts = Arc::new(Counts::default());
    let engine =
        Counting { inner: Arc::new(MemoryEngine::new(MemoryOptions::default())), counts: counts.clone() };
    let store = Store::new(Arc::new(engine), Arc::new(key), Arc::new(SystemClock), Entropy::from_system());
    let pipeline = Pipeline::start(store).await;
    // The first call of a process unwraps the tenant's keys and begins the writer's chain.
    pipeline.call("read", "first".into(), b"{}").await.expect("permitted");
    counts.take();

    let reply = pipeline.call("read", "second".into(), b"{}").await.expect("permitted");
    assert!(!reply.replayed);
    assert_eq!(counts.take(), (2, 1), "rounds of reads, commits");

    pipeline.call("write", "third".into(), b"{}").await.expect("permitted");
    assert_eq!(counts.take(), (2, 2), "rounds of reads, commits");

    let repeated = pipeline.call("read", "second".into(), b"{}").await.expect("permitted");
    assert!(repeated.replayed);
    assert_eq!(counts.take(), (2, 1), "rounds of reads, commits");
}
