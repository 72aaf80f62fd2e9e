use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aesp_proto::Entropy;
use aesp_storage::{
    Commit, Engine, Error, KeyProvider, KeyVersion, MemoryEngine, Snapshot, Versionstamp, Watch,
};
use async_trait::async_trait;
use tokio::{sync::watch, time::sleep};

/// How a node's way to the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    /// Everything is refused.
    Refused,
    /// Nothing comes back.
    Silent,
}

/// One node's way to the store that all share.
#[derive(Clone)]
pub(super) struct SimEngine {
    pub(super) base: Arc<MemoryEngine>,
    pub(super) entropy: Entropy,
    pub(super) way: watch::Sender<Way>,
    /// Whether commits are slow, refused for nothing or of unknown outcome now and then.
    pub(super) rough: watch::Sender<bool>,
    /// How many snapshots were asked for.
    pub(super) snapshots: Arc<AtomicUsize>,
}

impl SimEngine {
    pub(super) fn new(base: Arc<MemoryEngine>, entropy: Entropy, rough: watch::Sender<bool>) -> Self {
        Self { base, entropy, way: watch::Sender::new(Way::Open), rough, snapshots: Arc::default() }
    }

    async fn pass(&self) -> Result<(), Error> {
        let mut way = self.way.subscribe();
        let open = way.wait_for(|way| *way != Way::Silent).await.map(|way| *way == Way::Open);
        if open.unwrap_or(false) { Ok(()) } else { Err(Error::unavailable("cut off")) }
    }

    fn micros(&self, most: u64) -> Duration {
        Duration::from_micros(self.entropy.below(most))
    }

    fn one_in(&self, n: u64) -> bool {
        *self.rough.borrow() && self.entropy.below(n) == 0
    }
}

#[async_trait]
impl Engine for SimEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.snapshots.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        let snapshot = self.base.snapshot().await?;
        sleep(self.micros(3_000)).await;
        if self.one_in(100) {
            sleep(self.micros(1_500_000)).await;
        }
        self.pass().await?;
        Ok(snapshot)
    }

    async fn commit(&self, commit: Commit) -> Result<Versionstamp, Error> {
        self.pass().await?;
        if self.one_in(25) {
            return Err(Error::Conflict);
        }
        let (unknown, lost) = (self.one_in(40), self.one_in(4));
        if unknown && lost {
            return Err(Error::CommitUnknown);
        }
        let delay =
            self.micros(8_000) + if self.one_in(60) { self.micros(3_000_000) } else { Duration::ZERO };
        let base = Arc::clone(&self.base);
        // On its way it lands, whatever becomes of the node.
        let landing = tokio::spawn(async move {
            sleep(delay).await;
            base.commit(commit).await
        });
        if unknown {
            return Err(Error::CommitUnknown);
        }
        let landed = landing.await.map_err(|_| Error::CommitUnknown)?;
        self.pass().await.map_err(|_| Error::CommitUnknown)?;
        landed
    }

    fn watch(&self, key: &[u8]) -> Watch {
        let (engine, changed) = (self.clone(), self.base.watch(key));
        Box::pin(async move {
            changed.await?;
            sleep(engine.micros(5_000)).await;
            engine.pass().await
        })
    }
}

/// Wraps nothing: the cluster's rows are not sealed.
pub(super) struct NoKeys;

#[async_trait]
impl KeyProvider for NoKeys {
    async fn wrap(&self, key: &[u8], _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(key.to_vec())
    }

    async fn unwrap(&self, wrapped: &[u8], _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(wrapped.to_vec())
    }

    fn version_of(&self, _: &[u8]) -> Result<KeyVersion, Error> {
        Ok(1.into())
    }

    async fn current(&self) -> Result<KeyVersion, Error> {
        Ok(1.into())
    }

    async fn rotate(&self) -> Result<KeyVersion, Error> {
        Ok(1.into())
    }

    fn describe(&self) -> String {
        "none".into()
    }
}
