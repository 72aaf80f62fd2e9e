use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aesp_proto::Entropy;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::watch, time::sleep};

use super::{Commit, Engine, Snapshot, Turbulence, Versionstamp, Watch, turbulence::Fate};
use crate::{Error, Range};

/// How an unknown commit really ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCommit {
    /// It was written.
    Applied,
    /// It was lost.
    NotApplied,
    /// It is still on its way and arrives when [`FaultEngine::deliver_late`] is called.
    Late,
}

/// Wraps any engine and does to it what networks and disks do. For chaos tests.
#[derive(Clone)]
pub struct FaultEngine {
    inner: Arc<dyn Engine>,
    faults: Faults,
}

/// The switches of a [`FaultEngine`].
#[derive(Clone, Default)]
pub struct Faults(Arc<FaultState>);

struct FaultState {
    stalled: watch::Sender<bool>,
    plan: Mutex<Plan>,
}

impl Default for FaultState {
    fn default() -> Self {
        Self { stalled: watch::Sender::new(false), plan: Mutex::default() }
    }
}

#[derive(Default)]
struct Plan {
    failing: Option<Error>,
    failing_reads: Option<Error>,
    conflicts: usize,
    unknown: VecDeque<UnknownCommit>,
    late: Vec<Commit>,
    turbulence: Option<(Turbulence, Entropy)>,
}

impl Faults {
    /// Lets everything wait until it is called with `false`.
    pub fn stall(&self, stalled: bool) {
        self.0.stalled.send_replace(stalled);
    }

    /// Answers everything with this error; `None` ends it.
    pub fn fail(&self, error: Option<Error>) {
        self.plan().failing = error;
    }

    /// Answers reads with this error, and lets commits through; `None` ends it.
    pub fn fail_reads(&self, error: Option<Error>) {
        self.plan().failing_reads = error;
    }

    /// Refuses the next commits as conflicts.
    pub fn conflict(&self, commits: usize) {
        self.plan().conflicts = commits;
    }

    /// Lets the next commit end unknown; may be called several times for as many commits.
    pub fn unknown(&self, end: UnknownCommit) {
        self.plan().unknown.push_back(end);
    }

    /// Makes it as slow and as unreliable as this, by its seed, from now on; `None` ends it.
    pub fn turbulence(&self, turbulence: Option<Turbulence>) {
        self.plan().turbulence = turbulence.map(|turbulence| {
            let entropy = Entropy::from_seed(turbulence.seed);
            (turbulence, entropy)
        });
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self) -> Result<(), Error> {
        let mut stalled = self.0.stalled.subscribe();
        // The sender lives in `self`, so the wait can't end without a value.
        stalled.wait_for(|stalled| !stalled).await.map_err(|_| Error::unavailable("closed"))?;
        match &self.plan().failing {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    async fn pass_read(&self) -> Result<(), Error> {
        self.pass().await?;
        let read = self.plan().turbulence.as_ref().map(|(turbulence, _)| turbulence.read);
        if let Some(read) = read.filter(|read| !read.is_zero()) {
            sleep(read).await;
        }
        match &self.plan().failing_reads {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

impl FaultEngine {
    /// Wraps `inner`; the switches steer it from outside.
    #[must_use]
    pub fn new(inner: Arc<dyn Engine>) -> (Self, Faults) {
        let faults = Faults::default();
        (Self { inner, faults: faults.clone() }, faults)
    }

    /// Lets the late commits arrive now and returns what became of each.
    pub async fn deliver_late(&self) -> Vec<Result<Versionstamp, Error>> {
        let late = std::mem::take(&mut self.faults.plan().late);
        let mut out = Vec::with_capacity(late.len());
        for commit in late {
            out.push(self.inner.commit(commit).await);
        }
        out
    }
}

#[async_trait]
impl Engine for FaultEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.faults.pass_read().await?;
        let inner = self.inner.snapshot().await?;
        Ok(Box::new(FaultSnapshot { inner, faults: self.faults.clone() }))
    }

    async fn commit(&self, commit: Commit) -> Result<Versionstamp, Error> {
        self.faults.pass().await?;
        let turbulent = {
            let plan = self.faults.plan();
            plan.turbulence
                .as_ref()
                .map(|(turbulence, entropy)| (turbulence.commit, turbulence.fate(entropy)))
        };
        if let Some((commit, _)) = turbulent.filter(|(commit, _)| !commit.is_zero()) {
            sleep(commit).await;
        }
        let unknown = {
            let mut plan = self.faults.plan();
            if plan.conflicts > 0 {
                plan.conflicts -= 1;
                return Err(Error::Conflict);
            }
            match plan.unknown.pop_front() {
                Some(UnknownCommit::Late) => {
                    plan.late.push(commit);
                    return Err(Error::CommitUnknown);
                }
                Some(UnknownCommit::NotApplied) => return Err(Error::CommitUnknown),
                Some(UnknownCommit::Applied) => true,
                None => match turbulent.map_or(Fate::Normal, |(_, fate)| fate) {
                    Fate::Normal => false,
                    Fate::Refused => return Err(Error::Conflict),
                    Fate::UnknownNotApplied => return Err(Error::CommitUnknown),
                    Fate::UnknownApplied => true,
                },
            }
        };
        let stamp = self.inner.commit(commit).await?;
        if unknown { Err(Error::CommitUnknown) } else { Ok(stamp) }
    }

    fn watch(&self, key: &[u8]) -> Watch {
        self.inner.watch(key)
    }
}

struct FaultSnapshot {
    inner: Box<dyn Snapshot>,
    faults: Faults,
}

#[async_trait]
impl Snapshot for FaultSnapshot {
    fn version(&self) -> u64 {
        self.inner.version()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.faults.pass_read().await?;
        self.inner.get(key).await
    }

    async fn range(&self, range: &Range) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.faults.pass_read().await?;
        self.inner.range(range).await
    }
}
